"""Generations from the ledger to complete Parquet: submit what is unsent, wait, collect, until all is there."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    IncompleteListingError,
    RateLimitError,
    ServerError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.collection.collector import collect
from scrapedo_dagster.engine.collection.memory_budget import ByteBudget
from scrapedo_dagster.engine.collection.progress import Progress, Report
from scrapedo_dagster.engine.collection.tables import Tables
from scrapedo_dagster.engine.errors import (
    AlreadyCollectedError,
    JobDeadlineError,
    LostClaimError,
    NothingSubmittedError,
)
from scrapedo_dagster.engine.inbox.protocol import Inbox
from scrapedo_dagster.engine.ledger.records import Scope, Standing
from scrapedo_dagster.engine.ledger.states import UNSENT, State
from scrapedo_dagster.engine.polling.poller import Watch
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.threads import run_through

_POLL = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
_PASSING = (APIConnectionError, IncompleteListingError, RateLimitError, ServerError, UnparsableResponseError)
_DONE = frozenset({State.COLLECTED})
_READY = frozenset({State.FINISHED, State.EXPIRED})
_MOST_BATCHES = 16
_SHOWN = 3  # jobs that one message lists
_TARGETS_TOGETHER = 5000


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
        standings = self._standings(generation)
        collected = [each for each in standings if each.state in _DONE]
        lost = self.tables.lost(collected) if collected else []
        report.look_at(self.submitter.scope, standings, lost)
        return Situation(standings, [each for each in standings if each.state in _READY or each in lost])

    def count(self, generation: int, report: Report) -> None:
        """Tell how many targets it has, before it is its turn."""
        report.look_at(self.submitter.scope, self._standings(generation))

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
        except AlreadyCollectedError:
            return
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
        return self.submitter.advance([self.submitter.ledger.get(each.id) for each in unsent])

    def _standings(self, generation: int) -> list[Standing]:
        scope = self.submitter.scope
        standings = self.submitter.ledger.standings(scope, generation)
        if not standings:
            raise NothingSubmittedError(f"Nothing was submitted for {scope}: materialise its jobs first.")
        ended = [each for each in standings if each.state in {State.CANCELED, State.FAILED}]
        if ended:
            raise NothingSubmittedError(
                f"{len(ended)} of {len(standings)} batches of {scope} were {ended[0].state.value} "
                f"({ended[0].reason}): materialise its jobs again to go on with what was not done."
            )
        return standings


def collect_together(ready: Mapping[Homecoming, Sequence[Standing]], report: Report) -> dict[Homecoming, Exception]:
    """Collect batches of one account over one session. Returns what kept a partition from it.

    A batch that cannot be read does not keep the others of its partition from being collected; any other problem does,
    and no problem keeps other partitions from it.
    """
    if not any(ready.values()):
        return {}
    some = next(iter(ready))
    report.fetching()
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
        job_timeout: for the whole wait; jobs go on after it, and their partition has a JobDeadlineError.
        on_progress: called every few seconds; more and more seldom while nothing moves.
        on_home: called with each partition that has come home.
        poll: seconds between two looks at what is still running.
    """
    report = Report(on_progress)
    deadline = time.monotonic() + job_timeout.total_seconds()
    left, problems, polls = list(generations), dict[Scope, Exception](), 0
    watch: Watch | None = None
    for each, generation in generations.items():
        with suppress(Exception):  # whatever it is, it comes again when it is this partition's turn
            each.count(generation, report)
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
            return problems | {scope: _too_late(found, job_timeout) for scope, found in waiting.items() if found}
        report.wait(min(poll.pause(polls), max(0.0, deadline - time.monotonic())))
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


def _too_late(waiting: Sequence[Standing], job_timeout: timedelta) -> JobDeadlineError:
    first = waiting[0]
    if first.job_id is None:
        return JobDeadlineError(
            f"{len(waiting)} batches of {first.scope} were not submitted within {job_timeout}: too many other jobs of "
            "the account were open, or another run was at it. Materialise its tasks and contents again later: that "
            "submits them."
        )
    jobs = ", ".join(each.job_id or "" for each in waiting[:_SHOWN])
    return JobDeadlineError(
        f"{len(waiting)} jobs of {first.scope} have not ended within {job_timeout}, and go on ({jobs}"
        f"{', ...' if len(waiting) > _SHOWN else ''}). Once they have ended, the completion sensor has them collected; "
        "or materialise its tasks and contents again, to wait for them."
    )


def _look(watch: Watch, waiting: Sequence[Standing], report: Report) -> bool:
    try:
        return bool(watch.look(waiting, on_ended=report.tasks_ended))
    except _PASSING:
        return False  # an incident at the service says nothing about the jobs: only the deadline ends the wait
