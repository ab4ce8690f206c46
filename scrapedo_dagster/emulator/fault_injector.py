"""Decide which faults apply to a call, task, job or delivery. Their effects are implemented elsewhere."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Generic, Literal, TypeVar

from scrapedo_dagster.emulator.faults import CallFault, Faults, JobFault, TargetFault, WebhookFault

FaultT = TypeVar("FaultT", CallFault, TargetFault, JobFault, WebhookFault)


class FaultInjector:
    """The active faults with their counts and random numbers."""

    def __init__(self, faults: Faults) -> None:
        self.replace(faults)

    def replace(self, faults: Faults) -> None:
        """Replace all faults; resets counts and random numbers."""
        self.faults = faults
        self._calls = [_FaultDraws(fault, f"{faults.seed}:calls:{i}") for i, fault in enumerate(faults.calls)]
        self._targets = [_FaultDraws(fault, f"{faults.seed}:targets:{i}") for i, fault in enumerate(faults.targets)]
        self._jobs = [_FaultDraws(fault, f"{faults.seed}:jobs:{i}") for i, fault in enumerate(faults.jobs)]
        self._webhooks = [_FaultDraws(fault, f"{faults.seed}:webhooks:{i}") for i, fault in enumerate(faults.webhooks)]

    def needs_candidates(self, endpoint: str) -> bool:
        """Return whether a fault of `endpoint` matches by path or target URL."""
        return any(draws.fault.match != "*" for draws in self._calls if _applies_to(draws.fault, endpoint))

    def for_call(self, endpoint: str, candidates: Iterable[str]) -> list[CallFault]:
        """Return the faults of this call: any number of latencies, and at most one other fault."""
        candidates = tuple(candidates)
        hits: list[CallFault] = []
        for draws in self._calls:
            if not _applies_to(draws.fault, endpoint) or not _matches(draws.fault.match, candidates):
                continue
            if draws.draw():
                hits.append(draws.fault)
                if draws.fault.kind != "latency":
                    break
        return hits

    def for_task(
        self, kind: Literal["error", "missing", "gone", "linger"], task_id: str, url: str
    ) -> TargetFault | None:
        """Return the fault of this kind of this task, if any; the same one on every call."""
        for draws in self._targets:
            fault = draws.fault
            if fault.kind == kind and _matches(fault.match, (url,)) and draws.draw_once(task_id):
                return fault
        return None

    def for_job(self, job_id: str, urls: Iterable[str]) -> JobFault | None:
        """Return the fault of the end of this job, if any."""
        urls = tuple(urls)
        for draws in self._jobs:
            if _matches(draws.fault.match, urls) and draws.draw_once(job_id):
                return draws.fault
        return None

    def for_delivery(self, kind: Literal["duplicate", "delay", "lose"], task_id: str, url: str) -> WebhookFault | None:
        """Return the fault of this kind of the delivery of this task, if any; the same one on every call."""
        for draws in self._webhooks:
            if draws.fault.kind == kind and _matches(draws.fault.match, (url,)) and draws.draw_once(task_id):
                return draws.fault
        return None

    def truncates(self, url: str) -> bool:
        """Return whether to truncate this delivery attempt."""
        return any(
            draws.fault.kind == "truncate" and _matches(draws.fault.match, (url,)) and draws.draw()
            for draws in self._webhooks
        )


class _FaultDraws(Generic[FaultT]):
    """A fault with its own random numbers, so that other faults do not influence it."""

    def __init__(self, fault: FaultT, seed: str) -> None:
        self.fault: FaultT = fault
        self._random = random.Random(seed)
        self._hits = 0
        self._known: dict[str, bool] = {}

    def draw(self) -> bool:
        if self.fault.times is not None and self._hits >= self.fault.times:
            return False
        hit = self._random.random() < self.fault.probability
        self._hits += hit
        return hit

    def draw_once(self, key: str) -> bool:
        if key not in self._known:
            self._known[key] = self.draw()
        return self._known[key]


def _applies_to(fault: CallFault, endpoint: str) -> bool:
    return fault.endpoint in ("*", endpoint)


def _matches(pattern: str, candidates: Iterable[str]) -> bool:
    return pattern == "*" or any(_glob(pattern).match(candidate) for candidate in candidates)


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    # Only * and ? are wildcards: [ is common in URLs, which excludes fnmatch.
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(char, re.escape(char)) for char in pattern) + r"\Z", re.DOTALL)
