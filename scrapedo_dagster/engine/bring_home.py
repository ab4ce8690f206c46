"""Generations from the ledger to complete Parquet: submit what is unsent, wait, collect, until all is there."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    IncompleteListingError,
    JobTimeoutError,
    RateLimitError,
    ServerError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.budget import ByteBudget
from scrapedo_dagster.engine.collect import Tables, collect
from scrapedo_dagster.engine.inbox import Inbox
from scrapedo_dagster.engine.interrupts import run_through
from scrapedo_dagster.engine.ledger import LedgerError, LostClaimError, Scope, Standing
from scrapedo_dagster.engine.states import UNSENT, State
from scrapedo_dagster.engine.submit import Submitter
from scrapedo_dagster.engine.watch import Watch

_REPORT_EVERY = 5.0  # seconds between two reports of progress
_POLL = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
_PASSING = (APIConnectionError, IncompleteListingError, RateLimitError, ServerError, UnparsableResponseError)
_DONE = frozenset({State.COLLECTED})
_READY = frozenset({State.FINISHED, State.EXPIRED})
_MOST_BATCHES = 16
_TARGETS_TOGETHER = 5000


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


@dataclass(frozen=True)
class Situation:
    """Where the batches of a generation stand. The rows of `ready` can be written now, and are not there."""

    standings: list[Standing]
    ready: list[Standing]

    @property
    def waiting(self) -> list[Standing]:
        """Those whose jobs are under way."""
        return [each for each in self.standings if each.state == State.SUBMITTED]

    @property
    def unsent(self) -> list[Standing]:
        """Those of which it is not known that they were submitted."""
        return [each for each in self.standings if each.state in UNSENT]


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

    def look(self, generation: int, report: Report) -> Situation:
        """Where its batches stand.

        Raises:
            NothingSubmittedError: nothing of it was submitted, or it was canceled.
        """
        standings = self.submitter.ledger.standings(self.submitter.scope, generation)
        self._check(standings)
        report.look_at(self.submitter.scope, standings)
        collected = [each for each in standings if each.state in _DONE]
        lost = self.tables.lost(collected) if collected else []
        return Situation(standings, [each for each in standings if each.state in _READY or each in lost])

    def advance(self, generation: int, report: Report, situation: Situation | None = None) -> list[Standing]:
        """Do all that can be done now. Returns the submissions that have to be waited for; none when it is home.

        These are jobs that have not ended, or else what is not sent yet.

        Home is: every target of the generation is a row, and the generation is the data of its partition.

        Args:
            generation: of its partition.
            report: is told how far it is.
            situation: what `look` has just returned, if it was called.

        Raises:
            NothingSubmittedError: nothing of it was submitted, or it was canceled.
            ScrapeDoError: the service refused, or could not be reached. Collect again.
        """
        ledger, scope = self.submitter.ledger, self.submitter.scope
        while True:
            now = situation or self.look(generation, report)
            situation = None
            # What is paid for comes first: a batch that cannot be sent must not keep the others from being collected.
            if now.ready:
                for problem in collect_together({self: now.ready}, report).values():
                    raise problem
            elif now.unsent:
                if not _look(self._own_watch, now.waiting, report) and not self._send(now.unsent):
                    return now.waiting or now.unsent
            elif now.waiting:
                return now.waiting
            else:
                break
        self.tables.complete(generation, [each.batch for each in now.standings])
        ledger.completed(scope, generation)
        return []

    @cached_property
    def _own_watch(self) -> Watch:
        return self.watch()

    def watch(self) -> Watch:
        """What looks at its jobs, and those of other partitions of its account."""
        return Watch(self.submitter.ledger, self.submitter.client, self.inbox, self.submitter.log)

    async def collect(
        self, standing: Standing, client: AsyncScrapeDoAsyncAPIClient, budget: ByteBudget, turn: int, report: Report
    ) -> None:
        """Write the rows of one batch; see `collect`."""
        try:
            await self._collect(standing, client, budget, turn, report)
        except LostClaimError:
            # Another worker has recorded it, and our part has replaced its: write that as it was recorded.
            await self._collect(standing, client, budget, turn, report)

    async def _collect(
        self, standing: Standing, client: AsyncScrapeDoAsyncAPIClient, budget: ByteBudget, turn: int, report: Report
    ) -> None:
        ledger = self.submitter.ledger
        submission = await asyncio.to_thread(ledger.get, standing.id)
        await collect(
            ledger,
            client,
            self.tables,
            submission,
            leave_out=await asyncio.to_thread(ledger.submitted_again, submission),
            retries=self.retries,
            inbox=self.inbox,
            budget=budget,
            turn=turn,
            on_target=partial(report.target_written, submission.scope),
        )

    def _send(self, unsent: Sequence[Standing]) -> bool:
        advanced = [self.submitter.advance([self.submitter.ledger.get(each.id)]) for each in unsent]
        return any(advanced)

    def _check(self, standings: list[Standing]) -> None:
        scope = self.submitter.scope
        if not standings:
            raise NothingSubmittedError(f"Nothing was submitted for {scope}: materialise its jobs first.")
        ended = [each for each in standings if each.state in {State.CANCELED, State.FAILED}]
        if ended:
            raise NothingSubmittedError(
                f"{len(ended)} of {len(standings)} batches of {scope} were {ended[0].state.value} "
                f"({ended[0].reason}): materialise its jobs again to go on with what was not done."
            )


def collect_together(ready: Mapping[Homecoming, Sequence[Standing]], report: Report) -> dict[Homecoming, Exception]:
    """Collect batches of one account over one session. Returns what kept a partition from it.

    A batch that cannot be read does not keep the others of its partition from being collected; any other problem does,
    and no problem keeps other partitions from it.
    """
    if not any(ready.values()):
        return {}
    some = next(iter(ready))
    with _collector_at_ease():
        return run_through(_collect_together(some.async_client, ready, report), grace=some.submitter.patience.grace)


@contextmanager
def _collector_at_ease() -> Iterator[None]:
    """Python's garbage collector looks at what there is now, such as all of Dagster, no more until the end.

    Each request makes a hundred objects, so that it would look at everything every thousand requests.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _collect_together(
    connect: Callable[[], AsyncScrapeDoAsyncAPIClient],
    ready: Mapping[Homecoming, Sequence[Standing]],
    report: Report,
) -> dict[Homecoming, Exception]:
    problems: dict[Homecoming, Exception] = {}
    stopped: set[Homecoming] = set()
    budget = ByteBudget()
    batches = enumerate([(home, each) for home, standings in ready.items() for each in standings])

    async def collect_some(client: AsyncScrapeDoAsyncAPIClient) -> None:
        for turn, (home, standing) in batches:
            if home in stopped:
                continue
            try:
                await home.collect(standing, client, budget, turn, report)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other partitions are collected
                problems.setdefault(home, problem)
                if not isinstance(problem, ServerError | UnparsableResponseError):
                    stopped.add(home)

    async with connect() as client:
        targets = [each.target_count for standings in ready.values() for each in standings]
        at_once = _batches_at_once(client.max_concurrency, sum(targets) / len(targets))
        collecting = [asyncio.create_task(collect_some(client)) for _ in range(at_once)]
        try:
            await asyncio.gather(*collecting)
        finally:
            for each in collecting:
                each.cancel()
            await asyncio.gather(*collecting, return_exceptions=True)
    return problems


def _batches_at_once(concurrency: int, targets: float) -> int:
    """So many that the next one is being fetched while one is completed, and that small ones fill the connections."""
    return min(_MOST_BATCHES, max(2, math.ceil(2 * concurrency / max(1.0, targets))))


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
        waiting: dict[Scope, list[Standing]] = {}
        for group in _in_groups(left, generations, report, problems):
            kept = collect_together({each: situation.ready for each, situation in group.items()}, report)
            for each, situation in group.items():
                scope = each.submitter.scope
                try:
                    if each in kept:
                        raise kept[each]
                    # What was collected has changed, and is looked at again.
                    now = None if situation.ready else situation
                    waiting[scope] = each.advance(generations[each], report, now)
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


def _in_groups(
    left: Iterable[Homecoming],
    generations: Mapping[Homecoming, int],
    report: Report,
    problems: dict[Scope, Exception],
) -> Iterator[dict[Homecoming, Situation]]:
    """Partitions that are collected together, with where their batches stand: many small ones, or few large ones.

    Each group comes home before the next one is collected, so that what was done is seen, and is green, early.
    """
    group: dict[Homecoming, Situation] = {}
    targets = 0
    for each in left:
        try:
            group[each] = each.look(generations[each], report)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other partitions are brought home
            problems[each.submitter.scope] = error
            continue
        targets += sum(standing.target_count for standing in group[each].ready)
        if targets >= _TARGETS_TOGETHER:
            yield group
            group, targets = {}, 0
    yield group


def _too_late(waiting: Sequence[Standing], job_timeout: timedelta, polls: int) -> Exception:
    first = waiting[0]
    if first.job_id is None:
        return LedgerError(
            f"{len(waiting)} batches of {first.scope} were not submitted within {job_timeout}: too many other jobs of "
            "the account were open, or another run was at it. Collect again later: that submits them."
        )
    return JobTimeoutError(first.job_id, last_status=None, elapsed=job_timeout.total_seconds(), attempts=polls)


def _look(watch: Watch, waiting: Sequence[Standing], report: Report) -> bool:
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

    def look_at(self, scope: Scope, submissions: Sequence[Standing]) -> None:
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
