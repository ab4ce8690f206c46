"""Generations from the ledger to complete Parquet: submit what is unsent, wait, collect, until all is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

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
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.collect import Tables, collect
from scrapedo_dagster.engine.inbox import Inbox
from scrapedo_dagster.engine.interrupts import run_through
from scrapedo_dagster.engine.ledger import LedgerError, LostClaimError, Scope, Standing, Submission
from scrapedo_dagster.engine.states import UNSENT, State
from scrapedo_dagster.engine.submit import Submitter
from scrapedo_dagster.engine.watch import Watch

_REPORT_EVERY = 5.0  # seconds between two reports of progress
_POLL = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
_PASSING = (APIConnectionError, IncompleteListingError, RateLimitError, ServerError, UnparsableResponseError)
_DONE = frozenset({State.COLLECTED})


class NothingSubmittedError(LedgerError):
    """There is nothing to collect: the targets of this partition were never submitted, or were canceled."""


@dataclass(frozen=True)
class Progress:
    """How far it is. `ended` targets have ended at Scrape.do, `written` ones are in Parquet, after so many seconds."""

    targets: int
    ended: int
    written: int
    seconds: float

    def __str__(self) -> str:
        told = f"{self.written} of {self.targets} targets written, {self.ended} ended at Scrape.do"
        if not self.written or not self.seconds:
            return told
        rate = self.written / self.seconds
        left = timedelta(seconds=round((self.targets - self.written) / rate))
        return f"{told}; {rate:.3g} per second, {left} left at this rate"


@dataclass(frozen=True, eq=False)
class Homecoming:
    """Brings generations of one partition home."""

    submitter: Submitter
    async_client: Callable[[], AsyncScrapeDoAsyncAPIClient]
    tables: Tables
    retries: int = 0
    inbox: Inbox | None = None

    def bring(self, generation: int, *, job_timeout: timedelta, poll: Backoff = _POLL) -> None:
        """Return when it is home, or raise what kept it from that; see `bring_home`."""
        for problem in bring_home({self: generation}, job_timeout=job_timeout, poll=poll).values():
            raise problem

    def advance(self, generation: int, report: Report) -> list[Submission]:
        """Do all that can be done now. Returns the submissions that have to be waited for; none when it is home.

        These are jobs that have not ended, or else what is not sent yet.

        Home is: every target of the generation is a row, and the generation is the data of its partition.

        Raises:
            NothingSubmittedError: nothing of it was submitted, or it was canceled.
            ScrapeDoError: the service refused, or could not be reached. Collect again.
        """
        ledger, scope = self.submitter.ledger, self.submitter.scope
        while True:
            submissions = ledger.submissions(scope, generation)
            self._check(submissions)
            report.look_at(scope, submissions)
            # What is paid for comes first: a batch that cannot be sent must not keep the others from being collected.
            ready = [each for each in submissions if self._is_ready(each)]
            waiting = [each for each in submissions if each.state == State.SUBMITTED]
            unsent = [each for each in submissions if each.state in UNSENT]
            if ready:
                run_through(self._collect(ready, submissions, report), grace=self.submitter.patience.grace)
            elif unsent:
                if not _look(self.watch(), waiting, report) and not self.submitter.advance(unsent):
                    return waiting or unsent
            elif waiting:
                return waiting
            else:
                break
        self.tables.complete(generation, [each.batch for each in submissions])
        ledger.completed(scope, generation)
        return []

    def watch(self) -> Watch:
        """What looks at its jobs, and those of other partitions of its account."""
        return Watch(self.submitter.ledger, self.submitter.client, self.inbox, self.submitter.log)

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

    async def _collect(self, ready: list[Submission], all_of_them: list[Submission], report: Report) -> None:
        """Collect each; those that cannot be do not keep the others from it."""
        problems: list[ScrapeDoError] = []
        async with self.async_client() as client:
            for submission in ready:
                try:
                    await self._collect_one(client, submission, all_of_them, report)
                except LostClaimError:
                    # Another worker has recorded it, and our part has replaced its: write that as it was recorded.
                    ledger = self.submitter.ledger
                    now = ledger.submissions(submission.scope, submission.generation)
                    await self._collect_one(client, ledger.get(submission.id), now, report)
                except (ServerError, UnparsableResponseError) as error:
                    problems.append(error)
        if problems:
            raise problems[0]

    async def _collect_one(
        self,
        client: AsyncScrapeDoAsyncAPIClient,
        submission: Submission,
        all_of_them: list[Submission],
        report: Report,
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
            inbox=self.inbox,
            on_target=partial(report.target_written, submission.scope),
        )


def bring_home(
    generations: Mapping[Homecoming, int],
    *,
    job_timeout: timedelta,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_home: Callable[[Scope], None] = lambda _scope: None,
    poll: Backoff = _POLL,
) -> dict[Scope, Exception]:
    """Bring partitions of one account home, each as soon as its jobs have ended. Returns what kept the others.

    Args:
        generations: which generation, of each partition. What keeps one keeps none of the others.
        job_timeout: for the whole wait; jobs go on after it, and their partition has a JobTimeoutError.
        on_progress: called every few seconds.
        on_home: called with each partition that has come home.
        poll: seconds between two looks at what is still running.
    """
    report = Report(on_progress)
    deadline = time.monotonic() + job_timeout.total_seconds()
    left, problems, polls = list(generations), dict[Scope, Exception](), 0
    watch: Watch | None = None
    while True:
        waiting: dict[Scope, list[Submission]] = {}
        for each in left:
            scope = each.submitter.scope
            try:
                waiting[scope] = each.advance(generations[each], report)
                if not waiting[scope]:
                    on_home(scope)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other partitions are brought home
                problems[scope] = error
        left = [each for each in left if waiting.get(each.submitter.scope)]
        if not left:
            return problems
        watch = watch or left[0].watch()
        jobs = [each for found in waiting.values() for each in found if each.state == State.SUBMITTED]
        if _look(watch, jobs, report):
            polls = 0
            continue
        if time.monotonic() >= deadline:
            return problems | {
                scope: _too_late(found, job_timeout, polls + 1) for scope, found in waiting.items() if found
            }
        report.tell_if_due()
        time.sleep(min(poll.pause(polls), max(0.0, deadline - time.monotonic())))
        polls += 1


def _too_late(waiting: Sequence[Submission], job_timeout: timedelta, polls: int) -> Exception:
    first = waiting[0]
    if first.job_id is None:
        return LedgerError(
            f"{len(waiting)} batches of {first.scope} were not submitted within {job_timeout}: too many other jobs of "
            "the account were open, or another run was at it. Collect again later: that submits them."
        )
    return JobTimeoutError(first.job_id, last_status=None, elapsed=job_timeout.total_seconds(), attempts=polls)


def _look(watch: Watch, waiting: Sequence[Submission], report: Report) -> bool:
    try:
        return bool(watch.look(waiting, on_ended=report.tasks_ended))
    except _PASSING:
        return False  # an incident at the service says nothing about the jobs: only the deadline ends the wait


@dataclass
class Report:
    """Counts over all partitions, and tells at most every few seconds."""

    tell: Callable[[Progress], None]
    targets: dict[Scope, int] = field(default_factory=dict)
    written: dict[Scope, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def look_at(self, scope: Scope, submissions: list[Submission]) -> None:
        """Where a partition is, by the ledger."""
        self.targets[scope] = sum(each.target_count for each in submissions)
        self.written[scope] = sum(each.target_count for each in submissions if each.state in _DONE)
        ended = {State.FINISHED, State.EXPIRED, State.COLLECTED}
        self.ended |= {each.job_id or "": each.target_count for each in submissions if each.state in ended}

    def tasks_ended(self, submission: Standing, amount: int) -> None:
        """How far a job is, by the service."""
        self.ended[submission.job_id or ""] = amount
        self.tell_if_due()

    def target_written(self, scope: Scope) -> None:
        """A target of a batch that is being collected is a row."""
        self.written[scope] += 1
        self.tell_if_due()

    def tell_if_due(self) -> None:
        """Tell, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self.last >= _REPORT_EVERY:
            self.last = now
            targets, ended, written = (sum(each.values()) for each in (self.targets, self.ended, self.written))
            self.tell(Progress(targets, ended, written, now - self.started))
