"""A generation from the ledger to complete Parquet: submit what is unsent, wait, collect, until all is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    IncompleteListingError,
    JobTimeoutError,
    RateLimitError,
    ScrapeDoError,
    ServerError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.collect import Tables, collect
from scrapedo_dagster.engine.interrupts import run_through
from scrapedo_dagster.engine.ledger import LedgerError, LostClaimError, Submission
from scrapedo_dagster.engine.states import UNSENT, State
from scrapedo_dagster.engine.submit import Submitter
from scrapedo_dagster.engine.watch import refresh

_REPORT_EVERY = 5.0  # seconds between two reports of progress
_POLL = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
_PASSING = (APIConnectionError, IncompleteListingError, RateLimitError, ServerError, UnparsableResponseError)
_DONE = frozenset({State.COLLECTED})


class NothingSubmittedError(LedgerError):
    """There is nothing to collect: the targets of this partition were never submitted, or were canceled."""


@dataclass(frozen=True)
class Progress:
    """How far a partition is. `ended` targets have ended at Scrape.do, `written` ones are in Parquet."""

    targets: int
    ended: int
    written: int


@dataclass(frozen=True)
class Homecoming:
    """Brings generations home. `job_timeout` is for the whole wait; the jobs go on after it."""

    submitter: Submitter
    async_client: Callable[[], AsyncScrapeDoAsyncAPIClient]
    tables: Tables
    job_timeout: timedelta
    retries: int = 0
    on_progress: Callable[[Progress], None] = lambda _progress: None
    poll: Backoff = _POLL

    def bring(self, generation: int) -> None:
        """Return when every target of the generation is a row, and the generation is the data of its partition.

        Raises:
            NothingSubmittedError: nothing of it was submitted, or it was canceled.
            JobTimeoutError: some jobs have not ended in time. They go on; collect again.
            ScrapeDoError: the service refused, or could not be reached. Collect again.
        """
        ledger, scope = self.submitter.ledger, self.submitter.scope
        progress = _Reporter(self.on_progress)
        deadline = time.monotonic() + self.job_timeout.total_seconds()
        polls = 0
        while True:
            submissions = ledger.submissions(scope, generation)
            self._check(submissions)
            progress.look_at(submissions)
            # What is paid for comes first: a batch that cannot be sent must not keep the others from being collected.
            ready = [each for each in submissions if self._is_ready(each)]
            if ready:
                run_through(self._collect(ready, submissions, progress), grace=self.submitter.patience.grace)
                continue
            waiting = [each for each in submissions if each.state == State.SUBMITTED]
            if waiting and self._refresh(waiting, progress):
                polls = 0
                continue
            if any(each.state in UNSENT for each in submissions):
                self.submitter.submit(generation)
                continue
            if not waiting:
                break
            if time.monotonic() >= deadline:
                late = waiting[0]
                raise JobTimeoutError(
                    late.job_id or "", last_status=None, elapsed=self.job_timeout.total_seconds(), attempts=polls + 1
                )
            time.sleep(min(self.poll.pause(polls), max(0.0, deadline - time.monotonic())))
            polls += 1
        self.tables.complete(generation, [each.batch for each in submissions])

    def _check(self, submissions: list[Submission]) -> None:
        scope = self.submitter.scope
        if not submissions:
            raise NothingSubmittedError(f"Nothing was submitted for {scope}: materialise its jobs first.")
        ended = [each for each in submissions if each.state in {State.CANCELED, State.FAILED}]
        if ended:
            raise NothingSubmittedError(
                f"{len(ended)} of {len(submissions)} batches of {scope} were {ended[0].state.value} "
                f"({ended[0].reason}): materialise its jobs again to submit its targets anew."
            )

    def _is_ready(self, submission: Submission) -> bool:
        if submission.state in {State.FINISHED, State.EXPIRED}:
            return True
        return submission.state in _DONE and not self.tables.has(submission)

    def _refresh(self, waiting: list[Submission], progress: _Reporter) -> bool:
        try:
            return bool(refresh(self.submitter.ledger, self.submitter.client, waiting, on_job=progress.job_polled))
        except _PASSING:
            return False  # an incident at the service says nothing about the jobs: only the deadline ends the wait

    async def _collect(self, ready: list[Submission], all_of_them: list[Submission], progress: _Reporter) -> None:
        """Collect each; those that cannot be do not keep the others from it."""
        problems: list[ScrapeDoError] = []
        async with self.async_client() as client:
            for submission in ready:
                try:
                    await self._collect_one(client, submission, all_of_them, progress)
                except LostClaimError:
                    # Another worker has recorded it, and our part has replaced its: write that as it was recorded.
                    ledger = self.submitter.ledger
                    now = ledger.submissions(submission.scope, submission.generation)
                    await self._collect_one(client, ledger.get(submission.id), now, progress)
                except (ServerError, UnparsableResponseError) as error:
                    problems.append(error)
        if problems:
            raise problems[0]

    async def _collect_one(
        self,
        client: AsyncScrapeDoAsyncAPIClient,
        submission: Submission,
        all_of_them: list[Submission],
        progress: _Reporter,
    ) -> None:
        later = (each for each in all_of_them if each.attempt > submission.attempt)
        await collect(
            self.submitter.ledger,
            client,
            self.tables,
            submission,
            leave_out=frozenset(entry.position for each in later for entry in each.entries)
            if submission.state == State.COLLECTED
            else frozenset(),
            retries=self.retries,
            on_target=progress.target_written,
        )


@dataclass
class _Reporter:
    """Counts, and tells at most every few seconds."""

    report: Callable[[Progress], None]
    targets: int = 0
    written: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def look_at(self, submissions: list[Submission]) -> None:
        self.targets = sum(len(each.targets) for each in submissions)
        self.written = sum(len(each.targets) for each in submissions if each.state in _DONE)
        self.ended = {
            each.job_id or "": len(each.targets)
            for each in submissions
            if each.state in {State.FINISHED, State.EXPIRED, State.COLLECTED}
        }

    def job_polled(self, submission: Submission, job: JobDetails) -> None:
        self.ended[job.job_id] = sum(task.is_terminal for task in job.tasks)
        self._tell_if_due()

    def target_written(self) -> None:
        self.written += 1
        self._tell_if_due()

    def _tell_if_due(self) -> None:
        if time.monotonic() - self.last >= _REPORT_EVERY:
            self.last = time.monotonic()
            self.report(Progress(self.targets, sum(self.ended.values()), self.written))
