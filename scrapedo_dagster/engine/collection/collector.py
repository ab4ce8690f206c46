"""From finished jobs to Parquet: fetch their tasks, or take them from the inbox, and write one row a target.

One part file a batch, then the ledger says that the batch is collected: a crash repeats only the batches under way.
Results stream: the event loop fetches and decodes, a thread writes, and a `MemoryBudget` bounds what is between them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import GoneError, NotFoundError, ScrapeDoError
from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.api.task_matching import match_tasks
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget, Reservation
from scrapedo_dagster.engine.collection.rows import Result, Row, add_digest, placed, with_result, without_result
from scrapedo_dagster.engine.collection.tables import Tables
from scrapedo_dagster.engine.errors import AlreadyCollectedError, JobNotEndedError
from scrapedo_dagster.engine.inbox.protocol import Inbox
from scrapedo_dagster.engine.inbox.reader import DeliveredTasks
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.storage.schema import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.targets.target import Batch, Entry
from scrapedo_dagster.engine.threads import start_in_thread

_MOST_CREDITS = 2**31 - 1  # that the ledger holds; the service may say anything
_LATE = timedelta(days=2)  # of the 3 days that results are kept
_TASKS_END_WITHIN = 30.0  # seconds after the job; how the service orders the two is not documented
_POLL = Backoff(initial=0.5, maximum=5.0)
_AHEAD = 16  # targets of a batch that wait for a slot
_CHUNK = 2 * 1024 * 1024  # bytes of results that the thread is given at once


async def collect(
    ledger: Ledger,
    client: AsyncScrapeDoAsyncAPIClient,
    tables: Tables,
    submission: SubmissionWithTargets,
    *,
    leave_out: frozenset[int] = frozenset(),
    retries: int = 0,
    inbox: Inbox | None = None,
    budget: MemoryBudget | None = None,
    turn: int = 0,
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
        budget: of the batches that are collected at the same time, which come in its order; by default of this one.
        turn: of the batches that are collected at the same time, the lowest is fetched first.
        on_target: called after each target that becomes a row.

    Raises:
        ScrapeDoError: the service could not be asked; collect again.
        JobNotEndedError: the job goes on; collect again.
        AlreadyCollectedError: another worker has recorded it meanwhile. What that one has written stays.
        OSError: the rows could not be written. What was there before stays.
    """
    entries, rejected = _sorted_out(submission, leave_out)
    may_retry = submission.attempt < retries and submission.state != State.COLLECTED
    delivered = await asyncio.to_thread(DeliveredTasks.find, inbox, submission)
    is_late = await asyncio.to_thread(_is_late, ledger, submission)
    job = _Job(client, submission, delivered, budget or MemoryBudget(), turn, is_late)
    came: list[tuple[str, Row]] = []
    again: list[Entry] = []
    chunks = _Chunks(asyncio.get_running_loop())

    def keep() -> None:
        with tables.open_parts(submission) as (tasks_part, contents_part):
            for chunk in chunks:
                for result in chunk:
                    add_digest(result)
                contents_part.write(_contents([result.content for result in chunk if result.content is not None]))
            fetched = (row for url, task in came for row in placed(task, entries[url], submission.generation))
            rows = sorted([*rejected, *fetched], key=lambda row: int(row["position"]))
            tasks_part.write(pa.Table.from_pylist(rows, schema=TASKS_SCHEMA))
            # Who was faster may have emptied the inbox, or have come before the results expired.
            if ledger.submissions.get(submission.id).state != submission.state:
                raise AlreadyCollectedError(f"Submission {submission.id} of {submission.ref} was already collected.")
        if submission.state != State.COLLECTED:
            _record(ledger, submission, rows, tuple(again))
        delivered.remove()

    task_ids = await job.task_of_each(list(entries))
    kept = start_in_thread(keep)
    try:
        async with aclosing(job.results(task_ids, kept)) as results:
            async for url, result, reservation in results:
                if result.may_be_retried and may_retry:
                    again += entries[url]
                else:
                    came.append((url, result.task))
                    on_target()
                chunks.add(result, reservation)
        if job.unreadable and not job.read:
            raise job.unreadable[0]
        chunks.end()
        await asyncio.shield(kept)
    except BaseException:
        chunks.abandon()
        await asyncio.gather(kept, return_exceptions=True)
        raise
    finally:
        _release(job.reservations)


def _contents(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table. To copy contents takes long: they are copied once, and others may run meanwhile."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in CONTENTS_SCHEMA.names}
    contents = columns["content"]
    ends = pa.array([0, *itertools.accumulate(map(len, contents))], pa.int64()).buffers()[1]
    # Python joins large bytes without its lock, which Arrow holds where it makes an array of them.
    data = pa.py_buffer(b"".join(contents))
    columns["content"] = pa.Array.from_buffers(pa.large_binary(), len(contents), [None, ends, data])
    if all(row["text"] is row["content"] for row in rows):
        columns["text"] = columns["content"].cast(pa.large_string())
    return pa.Table.from_pydict(columns, schema=CONTENTS_SCHEMA)


def _sorted_out(
    submission: SubmissionWithTargets, leave_out: frozenset[int]
) -> tuple[dict[str, list[Entry]], list[Row]]:
    """The entries of each URL that was sent, and the rows of those that were not."""
    entries: dict[str, list[Entry]] = {}
    rejected: list[Row] = []
    for entry in submission.entries:
        if entry.position in leave_out:
            continue
        if entry.rejected is None:
            entries.setdefault(entry.url, []).append(entry)
        else:
            result = without_result(None, None, "rejected", entry.rejected)
            rejected += placed(result.task, [entry], submission.generation)
    return entries, rejected


class _AbandonedError(Exception):
    """Nothing more comes for the thread that writes."""


class _Chunks:
    """Results on their way from the event loop to the thread that writes, which iterates over them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[list[tuple[Result, Reservation]] | None] = SimpleQueue()
        self._next: list[tuple[Result, Reservation]] = []
        self._bytes = 0
        self._is_whole = False

    def add(self, result: Result, reservation: Reservation) -> None:
        reservation.take()
        self._next.append((result, reservation))
        self._bytes += result.nbytes
        if self._bytes >= _CHUNK:
            self._pass_on()

    def end(self) -> None:
        self._pass_on()
        self._is_whole = True
        self._queue.put(None)

    def abandon(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[list[Result]]:
        while (chunk := self._queue.get()) is not None:
            yield [result for result, _ in chunk]
            self._loop.call_soon_threadsafe(_release, [reservation for _, reservation in chunk])
        if not self._is_whole:
            raise _AbandonedError

    def _pass_on(self) -> None:
        for _, reservation in self._next:
            reservation.leave()
        self._queue.put(self._next)
        self._next, self._bytes = [], 0


def _release(reservations: Iterable[Reservation]) -> None:
    for reservation in reservations:
        reservation.release()


def _record(ledger: Ledger, submission: SubmissionWithTargets, rows: Sequence[Row], again: Batch) -> None:
    ledger.submissions.mark_collected(
        submission,
        credits_used=min(sum(row.get("credits_used") or 0 for row in rows), _MOST_CREDITS),
        succeeded=sum(row["status"] == "success" for row in rows),
        again=again,
    )


def _is_late(ledger: Ledger, submission: SubmissionWithTargets) -> bool:
    """Whether its results expire soon. The claim was before the job."""
    return submission.claimed_at is not None and ledger.now() - submission.claimed_at >= _LATE


@dataclass
class _Job:
    """A job whose tasks are fetched, where they were not delivered.

    `has_ended` is what the service said of it last. `read` counts the tasks that were there; `forgotten`
    is set if the service has forgotten all of them, and nothing was delivered.
    """

    client: AsyncScrapeDoAsyncAPIClient
    submission: SubmissionWithTargets
    delivered: DeliveredTasks
    budget: MemoryBudget
    turn: int
    is_late: bool
    has_ended: bool = True
    read: int = 0
    forgotten: NotFoundError | None = None
    reservations: list[Reservation] = field(default_factory=list)
    unreadable: list[ScrapeDoError] = field(default_factory=list)
    tasks_end_by: float = field(default_factory=lambda: asyncio.get_running_loop().time() + _TASKS_END_WITHIN)

    async def results(
        self, task_ids: Mapping[str, str | None], kept: asyncio.Future[None]
    ) -> AsyncGenerator[tuple[str, Result, Reservation], None]:
        """What each URL comes to, in their order, and what it holds of the budget; until `kept` is done.

        Nobody makes room in memory any more where writing has failed.
        """
        fetching: asyncio.Queue[asyncio.Task[tuple[str, Result, Reservation]]] = asyncio.Queue()
        fetcher = asyncio.create_task(self._fetch(task_ids, fetching))
        try:
            for _ in task_ids:
                coming = await fetching.get()
                if not coming.done():
                    first: set[asyncio.Future[Any]] = {coming, kept}
                    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                if kept.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                    return
                yield coming.result()
        finally:
            left = [fetcher, *(fetching.get_nowait() for _ in range(fetching.qsize()))]
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _fetch(
        self, task_ids: Mapping[str, str | None], fetching: asyncio.Queue[asyncio.Task[tuple[str, Result, Reservation]]]
    ) -> None:
        """Begin with each as soon as there is a slot for it. A few wait for one, so that none is ever idle."""
        ahead = asyncio.Semaphore(_AHEAD)
        for url, task_id in task_ids.items():
            await ahead.acquire()
            fetching.put_nowait(asyncio.create_task(self._in_turn(url, task_id, ahead)))

    async def _in_turn(
        self, url: str, task_id: str | None, ahead: asyncio.Semaphore
    ) -> tuple[str, Result, Reservation]:
        slots = self.client.concurrency
        await slots.acquire(self.turn)
        try:
            ahead.release()
            reservation = self.budget.reserve()
            self.reservations.append(reservation)
            result = await self._result(url, task_id, reservation)
            reservation.set_size(result.nbytes)
            return url, result, reservation
        finally:
            slots.release()

    async def _result(self, url: str, task_id: str | None, reservation: Reservation) -> Result:
        job_id = self.submission.job_id
        if self.forgotten is not None:
            return without_result(job_id, None, "expired", str(self.forgotten))
        if job_id is None or task_id is None:
            return without_result(job_id, None, "missing", f"job {job_id} has no task for this target")
        try:
            result = await self._delivered(url, task_id, reservation)
            if result is None:
                result = with_result(url, await self._ended(job_id, task_id, reservation))
        except NotFoundError as error:
            return without_result(job_id, task_id, "expired", str(error))
        except GoneError as error:
            return without_result(job_id, task_id, "gone", str(error))
        except ScrapeDoError as error:
            if not error.may_concern_one_resource or not self.is_late:
                raise
            self.unreadable.append(error)
            return without_result(job_id, task_id, "unreadable", str(error))
        self.read += 1
        return result

    async def _delivered(self, url: str, task_id: str, reservation: Reservation) -> Result | None:
        """What was delivered of it; None if nothing was, or its content was left out or is damaged."""
        task = await self.delivered.task(task_id, reservation.admit)
        result = None if task is None else with_result(url, task)
        return None if result is None or (not result.failed and result.content is None) else result

    async def _ended(self, job_id: str, task_id: str, reservation: Reservation) -> TaskDetails:
        polls = 0
        while True:
            task = await self.client.get_task(job_id, task_id, admit=reservation.admit)
            if task.is_terminal:
                return task
            if asyncio.get_running_loop().time() >= self.tasks_end_by:
                if not self.has_ended:
                    raise JobNotEndedError(
                        f"Job {job_id} of {self.submission.ref} was taken to have ended, and its task {task_id} is "
                        f"still {task.status!r}. Nothing is lost: collect again once it has ended."
                    )
                return task
            await asyncio.sleep(_POLL.pause(polls))
            polls += 1

    async def task_of_each(self, targets: Sequence[str]) -> dict[str, str | None]:
        """The ids of their tasks."""
        submission = self.submission
        if not targets or submission.job_id is None:
            return dict.fromkeys(targets)
        try:
            urls = await self._urls(submission.job_id)
        except NotFoundError as error:
            self.forgotten = error
            return dict.fromkeys(targets)
        task_ids = list(urls)
        matched = match_tasks(submission.targets, list(urls.values()))
        task_of = {
            target: None if index is None else task_ids[index]
            for target, index in zip(submission.targets, matched, strict=True)
        }
        return {target: task_of[target] for target in targets}

    async def _urls(self, job_id: str) -> dict[str, str]:
        """The URL of each task, as the service echoes it; an empty text where nobody knows it any more."""
        # A job that went wrong may no longer tell its tasks; the answer to its submission did.
        urls = dict.fromkeys(self.submission.task_ids, "")
        try:
            job = await self.client.get_job(job_id)
            self.has_ended = job.is_terminal
            urls |= job.task_urls
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
