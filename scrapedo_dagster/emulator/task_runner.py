"""Run a task that has a slot, until its outcome and its charge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from scrapedo_dagster.emulator.clock import EmulatorClock
from scrapedo_dagster.emulator.content import content_of
from scrapedo_dagster.emulator.fault_injector import FaultInjector
from scrapedo_dagster.emulator.fetcher import Fetcher, FetchError, TargetResponse
from scrapedo_dagster.emulator.plugins import plugin_content
from scrapedo_dagster.emulator.pricing import is_billed
from scrapedo_dagster.emulator.settings import EmulatorSettings
from scrapedo_dagster.emulator.state import Account, Store, Task, TaskOutcome

_REPEATS: Final = 2  # not documented by Scrape.do
_TIMEOUT_MS: Final = 60_000
_RETRY_TIMEOUT_MS: Final = 15_000


class TaskRunner:
    """Fetches and charges tasks, and passes each outcome to `finish`."""

    def __init__(
        self,
        *,
        settings: EmulatorSettings,
        clock: EmulatorClock,
        injector: FaultInjector,
        store: Store,
        account: Account,
        fetcher: Fetcher,
        finish: Callable[[Task, TaskOutcome], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._injector = injector
        self._store = store
        self._account = account
        self._fetcher = fetcher
        self._finish = finish

    async def run(self, task: Task) -> None:
        """Run a queued task to its end. Canceling leaves it unfinished and not charged."""
        await self._linger(task)
        task.move("pending", self._clock.now())
        await self._wait(self._settings.processing_seconds)
        if fault := self._injector.for_task("error", task.task_id, task.url):
            self._end(task, _failure(fault.status_code, fault.message), charge=0)
        elif not self._account.take(task.price):
            self._end(task, _failure(401, "the account has no credits left for this task"), charge=0)
        else:
            # Reserved while the task runs, so that no other task spends it.
            try:
                outcome = await self._outcome(task)
            finally:
                self._account.give_back(task.price)
            self._end(task, outcome, charge=task.price if outcome.billed else 0)

    def _end(self, task: Task, outcome: TaskOutcome, *, charge: int) -> None:
        """Charge and finish the task, unless it was canceled meanwhile."""
        if task.is_terminal:
            return
        self._account.take(charge)
        if charge:
            counts = self._store.target(task.url)
            counts.charged += 1
            counts.credits += charge
        self._finish(task, replace(outcome, credits=charge, remaining_credits=self._account.credits))

    async def _linger(self, task: Task) -> None:
        fault = self._injector.for_task("linger", task.task_id, task.url)
        if fault is None:
            return
        task.move(fault.status, self._clock.now())
        if fault.seconds is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._wait(fault.seconds)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(self._settings.scaled(seconds))

    async def _outcome(self, task: Task) -> TaskOutcome:
        job = task.job.request
        if job.plugin is not None:
            content = plugin_content(job.plugin.key, job.plugin.params[task.position])
            headers = (("Content-Type", "application/json"),)
            return TaskOutcome("success", 200, headers=headers, content=content, billed=True)
        try:
            response = await self._fetch(task)
        except FetchError as error:
            return _failure(error.status_code, str(error))
        if not (job.transparent_response or _is_delivered(response.status_code, task)):
            return _failure(502, f"the target responded with {response.status_code}")
        # In a thread: converting a large page to Markdown would block the event loop.
        content, is_base64 = await asyncio.to_thread(content_of, response, job)
        return TaskOutcome(
            "success",
            response.status_code,
            headers=response.headers,
            content=content,
            base64=is_base64,
            billed=is_billed(response.status_code),
        )

    async def _fetch(self, task: Task) -> TargetResponse:
        """Fetch the target, with repeated attempts while the timeout of the task allows."""
        job = task.job.request
        pause = self._settings.scaled(self._settings.processing_seconds)
        deadline = time.monotonic() + (job.timeout or _TIMEOUT_MS) / 1000
        # With a browser an attempt has no timeout of its own.
        attempt_timeout = (job.retry_timeout or _RETRY_TIMEOUT_MS) / 1000 if job.render is None else float("inf")
        repeats_left = 0 if job.disable_retry or job.transparent_response else _REPEATS

        def is_over() -> bool:
            return repeats_left == 0 or deadline - time.monotonic() <= pause

        while True:
            self._store.target(task.url).fetched += 1
            timeout = min(attempt_timeout, deadline - time.monotonic())
            try:
                response = await self._fetcher.fetch(task.url, job, timeout=timeout)
            except FetchError as error:
                if error.final or is_over():
                    raise
            else:
                if _is_delivered(response.status_code, task) or is_over():
                    return response
            repeats_left -= 1
            task.move("rotating", self._clock.now())
            await asyncio.sleep(pause)


def _is_delivered(status_code: int, task: Task) -> bool:
    """Return whether the response of the target is the result, and not a failure to fetch."""
    is_kept_redirect = 300 <= status_code < 400 and bool(task.job.request.disable_redirection)
    return is_billed(status_code) or is_kept_redirect


def _failure(status_code: int, message: str) -> TaskOutcome:
    return TaskOutcome("error", status_code, error=message)
