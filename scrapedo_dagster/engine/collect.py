"""From submitted jobs to Parquet: wait for each job, fetch its tasks, write one row a target.

One part file a job. A job whose part is written is not fetched again, so a collect that was killed goes on where it
was. Results stream: at most `client.max_concurrency` of them are in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import GoneError, NotFoundError
from scrapedo_dagster.api.matching import match_tasks
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.engine.parquet import ParquetTable
from scrapedo_dagster.engine.parquet_part import PartWriter
from scrapedo_dagster.engine.rows import Outcome, Place, with_result, without_result
from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.submit import Submission

_REPORT_EVERY = 5.0  # seconds between two reports of progress


@dataclass(frozen=True)
class Progress:
    """How far collecting a partition is. `ended` tasks have ended at Scrape.do, `written` ones are in Parquet."""

    targets: int
    ended: int
    written: int


@dataclass(frozen=True)
class Tables:
    """Where a partition's results go."""

    tasks: ParquetTable
    contents: ParquetTable
    partition: str | None


async def collect(
    client: AsyncScrapeDoAsyncAPIClient,
    tables: Tables,
    generation: int,
    submissions: Sequence[Submission],
    *,
    job_timeout: timedelta,
    on_progress: Callable[[Progress], None],
) -> None:
    """Bring a generation's results home and make them the data of the partition.

    A target whose result is expired (404), gone (410) or missing from its job is a row with the reason.

    Args:
        client: the account the jobs belong to.
        tables: where to.
        generation: the generation of the submissions.
        submissions: all of its jobs.
        job_timeout: how long to wait for each job to end.
        on_progress: called now and then.

    Raises:
        JobTimeoutError: a job has not ended in time. It goes on; collect again.
        ScrapeDoError: the service could not be reached or refused. What is written stays; collect again.
    """
    reporter = _Reporter(on_progress, targets=sum(len(submission.targets) for submission in submissions))
    done = {part.index for part in tables.tasks.parts(tables.partition) if part.generation == generation}
    for submission in submissions:
        if submission.batch in done:
            reporter.job_skipped(submission)
        else:
            await _collect_job(client, tables, submission, job_timeout, reporter)
    indexes = [submission.batch for submission in submissions] or [0]
    if not submissions and 0 not in done:
        with _open_parts(tables, generation, 0):
            pass  # no targets is a result too: two empty tables
    # `tasks` last: whoever sees its generation complete finds the contents complete as well.
    for table in (tables.contents, tables.tasks):
        table.complete_generation(tables.partition, generation, indexes)
    for table in (tables.contents, tables.tasks):
        table.remove_older_generations(tables.partition, generation)


async def _collect_job(
    client: AsyncScrapeDoAsyncAPIClient,
    tables: Tables,
    submission: Submission,
    job_timeout: timedelta,
    reporter: _Reporter,
) -> None:
    try:
        job = await client.wait_for_job(submission.job_id, timeout=job_timeout, on_poll=reporter.job_polled)
    except NotFoundError as error:
        outcomes = _all_expired(submission, str(error))
    else:
        outcomes = _in_order(client, submission, job)
    async with aclosing(outcomes):
        with _open_parts(tables, submission.generation, submission.batch) as (tasks_part, contents_part):
            async for outcome in outcomes:
                tasks_part.write(pa.Table.from_pylist([outcome.task], schema=TASKS_SCHEMA))
                if outcome.content is not None:
                    contents_part.write(pa.Table.from_pylist([outcome.content], schema=CONTENTS_SCHEMA))
                reporter.target_written()


@contextmanager
def _open_parts(tables: Tables, generation: int, batch: int) -> Iterator[tuple[PartWriter, PartWriter]]:
    """The parts of one job in both tables. That of `tasks` is committed last, and stands for both."""
    with (
        tables.tasks.open_part(tables.partition, generation, batch) as tasks_part,
        tables.contents.open_part(tables.partition, generation, batch) as contents_part,
    ):
        yield tasks_part, contents_part


async def _in_order(
    client: AsyncScrapeDoAsyncAPIClient, submission: Submission, job: JobDetails
) -> AsyncGenerator[Outcome, None]:
    """Each target's outcome in the order of the targets, several fetched at once, few held at once."""
    task_ids = _task_of_each_target(submission, job)
    waiting: deque[asyncio.Task[Outcome]] = deque()
    try:
        for place, task_id in zip(_places(submission), task_ids, strict=True):
            waiting.append(asyncio.create_task(_outcome(client, place, task_id)))
            if len(waiting) >= client.max_concurrency:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _outcome(client: AsyncScrapeDoAsyncAPIClient, place: Place, task_id: str | None) -> Outcome:
    if task_id is None:
        return without_result(place, None, "missing", f"job {place.job_id} has no task for this target")
    try:
        task = await client.get_task(place.job_id, task_id)
    except NotFoundError as error:
        return without_result(place, task_id, "expired", str(error))
    except GoneError as error:
        return without_result(place, task_id, "gone", str(error))
    return with_result(place, task)


async def _all_expired(submission: Submission, reason: str) -> AsyncGenerator[Outcome, None]:
    for place in _places(submission):
        yield without_result(place, None, "expired", reason)


def _places(submission: Submission) -> Iterator[Place]:
    for offset, url in enumerate(submission.targets):
        yield Place(submission.job_id, submission.first_position + offset, url, submission.generation)


def _task_of_each_target(submission: Submission, job: JobDetails) -> list[str | None]:
    # A job that went wrong may no longer tell its tasks; the answer to its submission did.
    urls = {**dict.fromkeys(submission.announced_task_ids, ""), **job.task_urls}
    task_ids = list(urls)
    matched = match_tasks(submission.targets, list(urls.values()))
    return [None if index is None else task_ids[index] for index in matched]


class _Reporter:
    """Counts, and tells at most every few seconds."""

    def __init__(self, report: Callable[[Progress], None], targets: int) -> None:
        self._report = report
        self._targets = targets
        self._written = 0
        self._ended = 0
        self._last = time.monotonic()

    def job_polled(self, job: JobDetails) -> None:
        # Earlier jobs are written, and so have ended.
        self._ended = self._written + sum(task.is_terminal for task in job.tasks)
        self._tell_if_due()

    def target_written(self) -> None:
        self._written += 1
        self._tell_if_due()

    def job_skipped(self, submission: Submission) -> None:
        self._written += len(submission.targets)

    def _tell_if_due(self) -> None:
        if time.monotonic() - self._last >= _REPORT_EVERY:
            self._last = time.monotonic()
            self._report(Progress(self._targets, max(self._ended, self._written), self._written))
