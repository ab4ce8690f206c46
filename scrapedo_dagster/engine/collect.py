"""From finished jobs to Parquet: fetch their tasks, or take them from the inbox, and write one row a target.

One part file a batch, then the ledger says that the batch is collected: a crash repeats at most one batch. Results
stream; at most `client.max_concurrency` of them are in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pyarrow as pa

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    GoneError,
    NotFoundError,
    ScrapeDoError,
    ServerError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.matching import match_tasks
from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.inbox import Inbox
from scrapedo_dagster.engine.inbox_tasks import Delivered
from scrapedo_dagster.engine.ledger import Ledger, Submission
from scrapedo_dagster.engine.parquet import ParquetTable
from scrapedo_dagster.engine.parquet_part import PartWriter
from scrapedo_dagster.engine.rows import Result, Row, with_result, without_result
from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.states import State
from scrapedo_dagster.engine.targets import Batch, Entry

_UNREADABLE = (APIConnectionError, ServerError, UnparsableResponseError)
_MOST_CREDITS = 2**31 - 1  # that the ledger holds; the service may say anything
_LATE = timedelta(days=2)  # of the 3 days that results are kept
_TASKS_END_WITHIN = 30.0  # seconds after the job; how the service orders the two is not documented
_POLL = Backoff(initial=0.5, maximum=5.0)


@dataclass(frozen=True)
class Tables:
    """Where a partition's results go."""

    tasks: ParquetTable
    contents: ParquetTable
    partition: str | None

    def newest_generation(self) -> int:
        """The newest generation that has left files, complete or not; 0 where none has."""
        return max(self._generations(), default=0)

    def unfinished_generation(self) -> int | None:
        """The newest generation that has left files, if these are not yet the data of the partition, and alone."""
        generations = self._generations()
        if not generations:
            return None
        newest = max(generations)
        # `tasks` is completed last, and removing what is older comes after that.
        current = self.tasks.current_generation(self.partition)
        is_complete = current is not None and current.generation >= newest
        return None if is_complete and generations == {newest} else newest

    def complete(self, generation: int, batches: Sequence[int]) -> None:
        """Make a generation the data of the partition, and remove what is older."""
        # `tasks` last: whoever sees its generation complete finds the contents complete as well.
        for table in (self.contents, self.tasks):
            table.complete_generation(self.partition, generation, batches)
        for table in (self.contents, self.tasks):
            table.remove_older_generations(self.partition, generation)

    def has(self, submission: Submission) -> bool:
        """Whether the rows of a submission are there."""
        # Its part of `tasks` is committed after that of `contents`, and stands for both.
        return any(
            (part.generation, part.index) == (submission.generation, submission.batch)
            for part in self.tasks.parts(self.partition)
        )

    def _generations(self) -> set[int]:
        parts = (part for table in (self.tasks, self.contents) for part in table.parts(self.partition))
        return {part.generation for part in parts}

    @contextmanager
    def open_parts(self, submission: Submission) -> Iterator[tuple[PartWriter, PartWriter]]:
        """The parts of a submission in `tasks` and `contents`."""
        place = (self.partition, submission.generation, submission.batch)
        with self.tasks.open_part(*place) as tasks_part, self.contents.open_part(*place) as contents_part:
            yield tasks_part, contents_part


async def collect(
    ledger: Ledger,
    client: AsyncScrapeDoAsyncAPIClient,
    tables: Tables,
    submission: Submission,
    *,
    leave_out: frozenset[int] = frozenset(),
    retries: int = 0,
    inbox: Inbox | None = None,
    on_target: Callable[[], None] = lambda: None,
) -> None:
    """Write the rows of one finished or expired submission, and record it as collected.

    A target whose result is expired (404), gone (410) or missing from its job is a row with the reason. One that cannot
    be read fails the whole batch, since most often this passes; a day before all of them expire it is a row, if others
    of its job can be read. While the submission's attempt is below `retries`, failed targets are planned again as a new
    batch instead of being rows.

    Args:
        ledger: where it is recorded.
        client: its account.
        tables: where the rows go.
        submission: in state finished or expired; or collected, if its files have been lost.
        leave_out: positions whose rows are in other batches.
        retries: how often a failed target may be submitted again.
        inbox: where tasks may have been delivered. They are not fetched, also where the service no longer has them, and
            are removed from it once the submission is recorded.
        on_target: called after each target.

    Raises:
        ScrapeDoError: the service could not be asked; collect again.
        OSError: the rows could not be written. What was there before stays.
    """
    rows: list[Row] = []
    again: list[Entry] = []
    entries: dict[str, list[Entry]] = {}
    for entry in submission.entries:
        if entry.position in leave_out:
            continue
        if entry.rejected is None:
            entries.setdefault(entry.url, []).append(entry)
        else:
            rejected = without_result(None, None, "rejected", entry.rejected)
            rows += rejected.placed([entry], submission.generation)
    may_retry = submission.attempt < retries and submission.state != State.COLLECTED
    delivered = Delivered.look(inbox, submission)
    job = _Job(client, submission, delivered, is_late=_is_late(ledger, submission))
    async with aclosing(_results(job, list(entries))) as results:
        with tables.open_parts(submission) as (tasks_part, contents_part):
            async for url, result in results:
                if result.failed and may_retry:
                    again += entries[url]
                else:
                    rows += result.placed(entries[url], submission.generation)
                    if result.content is not None:
                        contents_part.write(pa.Table.from_pylist([result.content], schema=CONTENTS_SCHEMA))
                on_target()
            if job.unreadable and not job.read:
                raise job.unreadable[0]
            rows.sort(key=lambda row: int(row["position"]))
            tasks_part.write(pa.Table.from_pylist(rows, schema=TASKS_SCHEMA))
    if submission.state != State.COLLECTED:
        _record(ledger, submission, rows, tuple(again))
    delivered.forget()


def _record(ledger: Ledger, submission: Submission, rows: Sequence[Row], again: Batch) -> None:
    ledger.collected(
        submission,
        credits_used=min(sum(row.get("credits_used") or 0 for row in rows), _MOST_CREDITS),
        succeeded=sum(row["status"] == "success" for row in rows),
        again=again,
    )


def _is_late(ledger: Ledger, submission: Submission) -> bool:
    """Whether its results expire soon. The claim was before the job."""
    return submission.claimed_at is not None and ledger.now() - submission.claimed_at >= _LATE


@dataclass
class _Job:
    """A job whose tasks are fetched, where they were not delivered. `read` counts those that were there."""

    client: AsyncScrapeDoAsyncAPIClient
    submission: Submission
    delivered: Delivered
    is_late: bool
    read: int = 0
    unreadable: list[ScrapeDoError] = field(default_factory=list)
    tasks_end_by: float = field(default_factory=lambda: asyncio.get_running_loop().time() + _TASKS_END_WITHIN)

    async def result(self, url: str, task_id: str | None) -> Result:
        """What the target came to."""
        job_id = self.submission.job_id
        if job_id is None or task_id is None:
            return without_result(job_id, None, "missing", f"job {job_id} has no task for this target")
        try:
            task = await self.delivered.task(task_id) or await self._ended(job_id, task_id)
        except NotFoundError as error:
            return without_result(job_id, task_id, "expired", str(error))
        except GoneError as error:
            return without_result(job_id, task_id, "gone", str(error))
        except _UNREADABLE as error:
            if not self.is_late:
                raise
            self.unreadable.append(error)
            return without_result(job_id, task_id, "unreadable", str(error))
        self.read += 1
        return with_result(url, task)

    async def _ended(self, job_id: str, task_id: str) -> TaskDetails:
        polls = 0
        while True:
            task = await self.client.get_task(job_id, task_id)
            if task.is_terminal or asyncio.get_running_loop().time() >= self.tasks_end_by:
                return task
            await asyncio.sleep(_POLL.pause(polls))
            polls += 1

    async def task_of_each(self, targets: Sequence[str]) -> list[str | None]:
        """The ids of their tasks.

        Raises:
            NotFoundError: the service has forgotten the job, and nothing of it was delivered.
        """
        submission = self.submission
        if not targets or submission.job_id is None:
            return [None] * len(targets)
        urls = await self._urls(submission.job_id)
        task_ids = list(urls)
        matched = match_tasks(submission.targets, list(urls.values()))
        task_of = {
            target: None if index is None else task_ids[index]
            for target, index in zip(submission.targets, matched, strict=True)
        }
        return [task_of[target] for target in targets]

    async def _urls(self, job_id: str) -> dict[str, str]:
        """The URL of each task, as the service echoes it; an empty text where nobody knows it any more."""
        # A job that went wrong may no longer tell its tasks; the answer to its submission did.
        urls = dict.fromkeys(self.submission.task_ids, "")
        try:
            urls |= (await self.client.get_job(job_id)).task_urls
        except NotFoundError:
            if not self.delivered.task_ids:
                raise
            urls = urls or dict.fromkeys(sorted(self.delivered.task_ids), "")
        for task_id in [task_id for task_id, url in urls.items() if not url]:
            urls[task_id] = await self._url(job_id, task_id)
        return urls

    async def _url(self, job_id: str, task_id: str) -> str:
        try:
            return (await self.delivered.task(task_id) or await self.client.get_task(job_id, task_id)).url
        except (NotFoundError, GoneError):
            return ""


async def _results(job: _Job, urls: Sequence[str]) -> AsyncGenerator[tuple[str, Result], None]:
    """What each URL came to, in their order: several fetched at once, few held at once."""
    submission = job.submission
    try:
        task_ids = await job.task_of_each(urls)
    except NotFoundError as error:
        for url in urls:
            yield url, without_result(submission.job_id, None, "expired", str(error))
        return
    waiting: deque[tuple[str, asyncio.Task[Result]]] = deque()
    try:
        for url, task_id in zip(urls, task_ids, strict=True):
            waiting.append((url, asyncio.create_task(job.result(url, task_id))))
            if len(waiting) >= job.client.max_concurrency:
                first, task = waiting.popleft()
                yield first, await task
        while waiting:
            first, task = waiting.popleft()
            yield first, await task
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
