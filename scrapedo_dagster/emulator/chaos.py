"""Decides which fault hits: draws, counts and remembers. What a fault does is elsewhere."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Generic, Literal, TypeVar

from scrapedo_dagster.emulator.faults import CallFault, Faults, JobFault, TargetFault, WebhookFault

FaultT = TypeVar("FaultT", CallFault, TargetFault, JobFault, WebhookFault)


class Chaos:
    """The faults in force. Replacing them starts their counts and draws anew."""

    def __init__(self, faults: Faults) -> None:
        self.replace(faults)

    def replace(self, faults: Faults) -> None:
        """Put `faults` in force instead of all others."""
        self.faults = faults
        self._calls = [_Dice(fault, f"{faults.seed}:calls:{i}") for i, fault in enumerate(faults.calls)]
        self._targets = [_Dice(fault, f"{faults.seed}:targets:{i}") for i, fault in enumerate(faults.targets)]
        self._jobs = [_Dice(fault, f"{faults.seed}:jobs:{i}") for i, fault in enumerate(faults.jobs)]
        self._webhooks = [_Dice(fault, f"{faults.seed}:webhooks:{i}") for i, fault in enumerate(faults.webhooks)]

    def wants_subjects(self, endpoint: str) -> bool:
        """Whether a fault of `endpoint` looks at what a call is about."""
        return any(dice.fault.match != "*" for dice in self._calls if _concerns(dice.fault, endpoint))

    def for_call(self, endpoint: str, subjects: Iterable[str]) -> list[CallFault]:
        """The faults that hit this call: any number of latencies, and at most one that ends it."""
        subjects = tuple(subjects)
        hits: list[CallFault] = []
        for dice in self._calls:
            if not _concerns(dice.fault, endpoint) or not _matches(dice.fault.match, subjects):
                continue
            if dice.throw():
                hits.append(dice.fault)
                if dice.fault.kind != "latency":
                    break
        return hits

    def for_task(
        self, kind: Literal["error", "missing", "gone", "linger"], task_id: str, url: str
    ) -> TargetFault | None:
        """The fault of this kind that hits this task. Asking again gives the same answer."""
        for dice in self._targets:
            fault = dice.fault
            if fault.kind == kind and _matches(fault.match, (url,)) and dice.throw_once(task_id):
                return fault
        return None

    def for_job(self, job_id: str, urls: Iterable[str]) -> JobFault | None:
        """The fault that hits the end of this job."""
        urls = tuple(urls)
        for dice in self._jobs:
            if _matches(dice.fault.match, urls) and dice.throw_once(job_id):
                return dice.fault
        return None

    def for_delivery(self, kind: Literal["duplicate", "delay", "lose"], task_id: str, url: str) -> WebhookFault | None:
        """The fault of this kind that hits the delivery of this task. Asking again gives the same answer."""
        for dice in self._webhooks:
            if dice.fault.kind == kind and _matches(dice.fault.match, (url,)) and dice.throw_once(task_id):
                return dice.fault
        return None

    def truncates(self, url: str) -> bool:
        """Whether this attempt at a delivery of this target is cut short."""
        return any(
            dice.fault.kind == "truncate" and _matches(dice.fault.match, (url,)) and dice.throw()
            for dice in self._webhooks
        )


class _Dice(Generic[FaultT]):
    """One fault with its own random numbers, so that other faults do not change its draws."""

    def __init__(self, fault: FaultT, seed: str) -> None:
        self.fault: FaultT = fault
        self._random = random.Random(seed)
        self._hits = 0
        self._known: dict[str, bool] = {}

    def throw(self) -> bool:
        if self.fault.times is not None and self._hits >= self.fault.times:
            return False
        hit = self._random.random() < self.fault.probability
        self._hits += hit
        return hit

    def throw_once(self, who: str) -> bool:
        if who not in self._known:
            self._known[who] = self.throw()
        return self._known[who]


def _concerns(fault: CallFault, endpoint: str) -> bool:
    return fault.endpoint in ("*", endpoint)


def _matches(pattern: str, subjects: Iterable[str]) -> bool:
    return pattern == "*" or any(_glob(pattern).match(subject) for subject in subjects)


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    # Only * and ? are special: [ is common in URLs, and a class of characters is not wanted there.
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(char, re.escape(char)) for char in pattern) + r"\Z", re.DOTALL)
