"""Fetches the tasks of one job: concurrently, in order, and again while a task has not ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import GoneError, NotFoundError, ScrapeDoError
from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.api.task_matching import match_tasks
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.collection.limits import CollectLimits
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget, Reservation
from scrapedo_dagster.engine.collection.rows import Result, result_of_task, result_without_task
from scrapedo_dagster.engine.errors import JobNotEndedError
from scrapedo_dagster.engine.inbox.delivered_tasks import DeliveredTasks
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets


class FetchedTask(NamedTuple):
    """The result of one target, and the memory that it holds until it is written."""

    url: str
    result: Result
    reservation: Reservation


@dataclass
class TaskFetcher:
    """Fetches the tasks of one job, except those that were delivered to the inbox.

    `collect_batch` describes the attributes. If `is_near_expiry`, a task that cannot be read becomes a result.
    """

    client: AsyncScrapeDoAsyncAPIClient
    submission: SubmissionWithTargets
    delivered: DeliveredTasks
    budget: MemoryBudget
    priority: int
    is_near_expiry: bool
    limits: CollectLimits
    clock: Clock = SYSTEM_CLOCK
    _job_has_ended: bool = True
    _job_not_found: NotFoundError | None = None
    _read: int = 0
    _unreadable: list[ScrapeDoError] = field(default_factory=list)
    _reservations: list[Reservation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tasks_end_by = self.clock.monotonic() + self.limits.task_end_delay

    async def fetch(
        self, task_ids: Mapping[str, str | None], stop: asyncio.Future[None]
    ) -> AsyncGenerator[FetchedTask, None]:
        """Yield the result of each URL, in order, until `stop` is done.

        Raises:
            ScrapeDoError: a task could not be read.
            JobNotEndedError: a task has not ended in time, nor has its job.
        """
        # Once writing has failed, nothing frees memory any more: to wait for a response could take forever.
        started: asyncio.Queue[asyncio.Task[FetchedTask]] = asyncio.Queue()
        starter = asyncio.create_task(self._start_all(task_ids, started))
        try:
            for _ in task_ids:
                fetching = await started.get()
                if not fetching.done():
                    first: set[asyncio.Future[Any]] = {fetching, stop}
                    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    fetching.cancel()
                    await asyncio.gather(fetching, return_exceptions=True)
                    return
                yield fetching.result()
        finally:
            left = [starter, *(started.get_nowait() for _ in range(started.qsize()))]
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def raise_if_all_unreadable(self) -> None:
        """Raise the first error of a job near expiry none of whose tasks could be read."""
        if self._unreadable and not self._read:
            raise self._unreadable[0]

    def release(self) -> None:
        """Free the memory of all results."""
        for each in self._reservations:
            each.release()

    async def _start_all(
        self, task_ids: Mapping[str, str | None], started: asyncio.Queue[asyncio.Task[FetchedTask]]
    ) -> None:
        """Start to fetch each task, with a few waiting for a connection so that none is ever idle."""
        may_wait = asyncio.Semaphore(self.limits.waiting_targets)
        for url, task_id in task_ids.items():
            await may_wait.acquire()
            started.put_nowait(asyncio.create_task(self._fetch(url, task_id, may_wait)))

    async def _fetch(self, url: str, task_id: str | None, may_wait: asyncio.Semaphore) -> FetchedTask:
        connections = self.client.concurrency
        await connections.acquire(self.priority)
        try:
            may_wait.release()
            reservation = self.budget.reserve()
            self._reservations.append(reservation)
            result = await self._result(url, task_id, reservation)
            reservation.set_size(result.nbytes)
            return FetchedTask(url, result, reservation)
        finally:
            connections.release()

    async def _result(self, url: str, task_id: str | None, reservation: Reservation) -> Result:
        job_id = self.submission.job_id
        if self._job_not_found is not None:
            return result_without_task(job_id, None, "expired", str(self._job_not_found))
        if job_id is None or task_id is None:
            return result_without_task(job_id, None, "missing", f"job {job_id} has no task for this target")
        try:
            result = await self._delivered_result(url, task_id, reservation)
            if result is None:
                result = result_of_task(url, await self._ended_task(job_id, task_id, reservation))
        except NotFoundError as error:
            return result_without_task(job_id, task_id, "expired", str(error))
        except GoneError as error:
            return result_without_task(job_id, task_id, "gone", str(error))
        except ScrapeDoError as error:
            if not error.may_concern_one_resource or not self.is_near_expiry:
                raise
            self._unreadable.append(error)
            return result_without_task(job_id, task_id, "unreadable", str(error))
        self._read += 1
        return result

    async def _delivered_result(self, url: str, task_id: str, reservation: Reservation) -> Result | None:
        """Return the delivered result, or None if there is none or its content was left out or is damaged."""
        task = await self.delivered.task(task_id, reservation.admit)
        result = None if task is None else result_of_task(url, task)
        return None if result is None or (not result.failed and result.content is None) else result

    async def _ended_task(self, job_id: str, task_id: str, reservation: Reservation) -> TaskDetails:
        """Fetch a task, again while it has not ended. One that never ends is returned as it is if its job has ended."""
        polls = 0
        while True:
            task = await self.client.get_task(job_id, task_id, admit=reservation.admit)
            if task.is_terminal:
                return task
            if self.clock.monotonic() >= self._tasks_end_by:
                if not self._job_has_ended:
                    raise JobNotEndedError(
                        f"{self.submission.ref}: job {job_id} was recorded as ended, but its task {task_id} is still "
                        f"{task.status!r}. Nothing is lost: collect again once the job has ended."
                    )
                return task
            await self.clock.sleep_async(self.limits.task_poll.pause(polls))
            polls += 1

    async def find_task_ids(self, targets: Sequence[str]) -> dict[str, str | None]:
        """Return the task id of each target, or None where the job has no task for it."""
        submission = self.submission
        if not targets or submission.job_id is None:
            return dict.fromkeys(targets)
        try:
            urls = await self._task_urls(submission.job_id)
        except NotFoundError as error:
            self._job_not_found = error
            return dict.fromkeys(targets)
        task_ids = list(urls)
        matched = match_tasks(submission.targets, list(urls.values()))
        task_of = {
            target: None if index is None else task_ids[index]
            for target, index in zip(submission.targets, matched, strict=True)
        }
        return {target: task_of[target] for target in targets}

    async def _task_urls(self, job_id: str) -> dict[str, str]:
        """Return the URL of each task as the service echoes it, or an empty text if unknown."""
        # A job that went wrong may no longer list its tasks; the response to its submission did.
        urls = dict.fromkeys(self.submission.task_ids, "")
        try:
            job = await self.client.get_job(job_id)
            self._job_has_ended = job.is_terminal
            urls |= job.task_urls
        except NotFoundError:
            if not self.delivered.task_ids:
                raise
            urls = urls or dict.fromkeys(sorted(self.delivered.task_ids), "")
        for task_id in [task_id for task_id, url in urls.items() if not url]:
            urls[task_id] = await self._task_url(job_id, task_id)
        return urls

    async def _task_url(self, job_id: str, task_id: str) -> str:
        try:
            return (await self.delivered.task(task_id) or await self.client.get_task(job_id, task_id)).url
        except (NotFoundError, GoneError):
            return ""
