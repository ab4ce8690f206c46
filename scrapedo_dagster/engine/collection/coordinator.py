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
from scrapedo_dagster.api.errors import ScrapeDoError, ServerError, UnparsableResponseError
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.collection.collector import collect
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget
from scrapedo_dagster.engine.collection.progress import Progress, ProgressReporter
from scrapedo_dagster.engine.collection.tables import Tables
from scrapedo_dagster.engine.errors import (
    AlreadyCollectedError,
    JobDeadlineError,
    LostClaimError,
    NothingSubmittedError,
)
from scrapedo_dagster.engine.inbox.protocol import Inbox
from scrapedo_dagster.engine.ledger.records import PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import UNSENT, State
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.threads import run_async_uninterrupted
from scrapedo_dagster.text import join_limited

_POLL = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
_DONE = frozenset({State.COLLECTED})
_READY = frozenset({State.FINISHED, State.EXPIRED})
_MOST_BATCHES = 16
_TARGETS_TOGETHER = 5000


@dataclass(frozen=True)
class GenerationStatus:
    """Where the batches of a generation stand. The rows of `ready` can be written now, and are not there."""

    submissions: list[Submission]
    ready: list[Submission]

    @property
    def waiting(self) -> list[Submission]:
        """Those whose jobs are under way."""
        return [each for each in self.submissions if each.state == State.SUBMITTED]

    @property
    def unsent(self) -> list[Submission]:
        """Those of which it is not known that they were submitted."""
        return [each for each in self.submissions if each.state in UNSENT]


@dataclass(frozen=True, eq=False)
class PartitionCollector:
    """Brings generations of one partition home."""

    submitter: Submitter
    async_client: Callable[[], AsyncScrapeDoAsyncAPIClient]
    tables: Tables
    retries: int = 0
    inbox: Inbox | None = None

    def wait_and_collect(self, generation: int, *, job_timeout: timedelta, poll: Backoff = _POLL) -> None:
        """Return when it is home, or raise what kept it from that; see `collect_generations`."""
        for problem in collect_generations({self: generation}, job_timeout=job_timeout, poll=poll).values():
            raise problem

    def status(self, generation: int, report: ProgressReporter) -> GenerationStatus:
        """Where its batches stand.

        Raises:
            NothingSubmittedError: nothing of it was submitted, or it was canceled.
        """
        submissions = self._submissions(generation)
        collected = [each for each in submissions if each.state in _DONE]
        lost = self.tables.lost(collected) if collected else []
        report.update(self.submitter.ref, submissions, lost)
        return GenerationStatus(submissions, [each for each in submissions if each.state in _READY or each in lost])

    def count(self, generation: int, report: ProgressReporter) -> None:
        """Tell how many targets it has, before it is its turn."""
        report.update(self.submitter.ref, self._submissions(generation))

    def advance(
        self, generation: int, report: ProgressReporter, status: GenerationStatus | None = None
    ) -> list[Submission]:
        """Do all that can be done now. Returns the submissions that have to be waited for; none when it is home.

        These are jobs that have not ended, or else what is not sent yet.

        Home is: every target of the generation is a row, and the generation is the data of its partition.

        Args:
            generation: of its partition.
            report: is told how far it is.
            status: what `look` has just returned, if it was called.

        Raises:
            NothingSubmittedError: nothing of it was submitted, or it was canceled.
            ScrapeDoError: the service refused, or could not be reached. Collect again.
        """
        ledger, ref = self.submitter.ledger, self.submitter.ref
        while True:
            now = status or self.status(generation, report)
            status = None
            # What is paid for comes first: a batch that cannot be sent must not keep the others from being collected.
            if now.ready:
                for problem in collect_together({self: now.ready}, report).values():
                    raise problem
            elif now.unsent:
                if not _poll_waiting(self._own_poller, now.waiting, report) and not self._send(now.unsent):
                    return now.waiting or now.unsent
            elif now.waiting:
                return now.waiting
            else:
                break
        self.tables.complete(generation, [each.batch for each in now.submissions])
        ledger.generations.mark_completed(ref, generation)
        return []

    @cached_property
    def _own_poller(self) -> JobPoller:
        return self.poller()

    def poller(self) -> JobPoller:
        """What looks at its jobs, and those of other partitions of its account."""
        return JobPoller(self.submitter.ledger, self.submitter.client, self.inbox, self.submitter.log)

    async def collect(
        self,
        submission: Submission,
        client: AsyncScrapeDoAsyncAPIClient,
        budget: MemoryBudget,
        turn: int,
        report: ProgressReporter,
    ) -> None:
        """Write the rows of one batch; see `collect`."""
        try:
            await self._collect(submission, client, budget, turn, report)
        except AlreadyCollectedError:
            return
        except LostClaimError:
            # Another worker has recorded it, and our part has replaced its: write that as it was recorded.
            await self._collect(submission, client, budget, turn, report)

    async def _collect(
        self,
        submission: Submission,
        client: AsyncScrapeDoAsyncAPIClient,
        budget: MemoryBudget,
        turn: int,
        report: ProgressReporter,
    ) -> None:
        ledger = self.submitter.ledger
        full = await asyncio.to_thread(ledger.submissions.get, submission.id)
        await collect(
            ledger,
            client,
            self.tables,
            full,
            leave_out=await asyncio.to_thread(ledger.submissions.positions_planned_again, full),
            retries=self.retries,
            inbox=self.inbox,
            budget=budget,
            turn=turn,
            on_target=partial(report.target_written, submission.ref),
        )

    def _send(self, unsent: Sequence[Submission]) -> bool:
        return self.submitter.advance([self.submitter.ledger.submissions.get(each.id) for each in unsent])

    def _submissions(self, generation: int) -> list[Submission]:
        ref = self.submitter.ref
        submissions = self.submitter.ledger.submissions.of_generation(ref, generation)
        if not submissions:
            raise NothingSubmittedError(f"Nothing was submitted for {ref}: materialise its jobs first.")
        ended = [each for each in submissions if each.state in {State.CANCELED, State.FAILED}]
        if ended:
            raise NothingSubmittedError(
                f"{len(ended)} of {len(submissions)} batches of {ref} were {ended[0].state.value} "
                f"({ended[0].reason}): materialise its jobs again to go on with what was not done."
            )
        return submissions


def collect_together(
    ready: Mapping[PartitionCollector, Sequence[Submission]], report: ProgressReporter
) -> dict[PartitionCollector, Exception]:
    """Collect batches of one account over one session. Returns what kept a partition from it.

    A batch that cannot be read does not keep the others of its partition from being collected; any other problem does,
    and no problem keeps other partitions from it.
    """
    if not any(ready.values()):
        return {}
    some = next(iter(ready))
    report.fetching()
    with _collector_at_ease():
        return run_async_uninterrupted(
            _collect_together(some.async_client, ready, report), grace=some.submitter.settings.claim_policy.grace
        )


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
    ready: Mapping[PartitionCollector, Sequence[Submission]],
    report: ProgressReporter,
) -> dict[PartitionCollector, Exception]:
    problems: dict[PartitionCollector, Exception] = {}
    stopped: set[PartitionCollector] = set()
    budget = MemoryBudget()
    batches = enumerate([(home, each) for home, submissions in ready.items() for each in submissions])

    async def collect_some(client: AsyncScrapeDoAsyncAPIClient) -> None:
        for turn, (home, submission) in batches:
            if home in stopped:
                continue
            try:
                await home.collect(submission, client, budget, turn, report)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other partitions are collected
                problems.setdefault(home, problem)
                if not isinstance(problem, ServerError | UnparsableResponseError):
                    stopped.add(home)

    async with connect() as client:
        targets = [each.target_count for submissions in ready.values() for each in submissions]
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


def collect_generations(
    generations: Mapping[PartitionCollector, int],
    *,
    job_timeout: timedelta,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_collected: Callable[[PartitionRef], None] = lambda _ref: None,
    poll: Backoff = _POLL,
) -> dict[PartitionRef, Exception]:
    """Bring partitions of one account home, each as soon as its jobs have ended. Returns what kept the others.

    Args:
        generations: which generation, of each partition. What keeps one keeps none of the others.
        job_timeout: for the whole wait; jobs go on after it, and their partition has a JobDeadlineError.
        on_progress: called every few seconds; more and more seldom while nothing moves.
        on_collected: called with each partition that has come home.
        poll: seconds between two looks at what is still running.
    """
    report = ProgressReporter(on_progress)
    deadline = time.monotonic() + job_timeout.total_seconds()
    left, problems, polls = list(generations), dict[PartitionRef, Exception](), 0
    poller: JobPoller | None = None
    for each, generation in generations.items():
        with suppress(Exception):  # whatever it is, it comes again when it is this partition's turn
            each.count(generation, report)
    while True:
        waiting: dict[PartitionRef, list[Submission]] = {}
        for group in _in_groups(left, generations, report, problems):
            kept = collect_together({each: status.ready for each, status in group.items()}, report)
            for each, status in group.items():
                ref = each.submitter.ref
                try:
                    if each in kept:
                        raise kept[each]
                    # What was collected has changed, and is looked at again.
                    now = None if status.ready else status
                    waiting[ref] = each.advance(generations[each], report, now)
                    if not waiting[ref]:
                        on_collected(ref)
                except Exception as error:  # noqa: BLE001 - whatever it is, the other partitions are brought home
                    problems[ref] = error
        left = [each for each in left if waiting.get(each.submitter.ref)]
        if not left:
            return problems
        poller = poller or left[0].poller()
        jobs = [each for found in waiting.values() for each in found if each.state == State.SUBMITTED]
        if _poll_waiting(poller, jobs, report):
            polls = 0
            continue
        if time.monotonic() >= deadline:
            return problems | {ref: _too_late(found, job_timeout) for ref, found in waiting.items() if found}
        report.wait(min(poll.pause(polls), max(0.0, deadline - time.monotonic())))
        polls += 1


def _in_groups(
    left: Iterable[PartitionCollector],
    generations: Mapping[PartitionCollector, int],
    report: ProgressReporter,
    problems: dict[PartitionRef, Exception],
) -> Iterator[dict[PartitionCollector, GenerationStatus]]:
    """Partitions that are collected together, with where their batches stand: many small ones, or few large ones.

    Each group comes home before the next one is collected, so that what was done is seen, and is green, early.
    """
    group: dict[PartitionCollector, GenerationStatus] = {}
    targets = 0
    for each in left:
        try:
            group[each] = each.status(generations[each], report)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other partitions are brought home
            problems[each.submitter.ref] = error
            continue
        targets += sum(submission.target_count for submission in group[each].ready)
        if targets >= _TARGETS_TOGETHER:
            yield group
            group, targets = {}, 0
    yield group


def _too_late(waiting: Sequence[Submission], job_timeout: timedelta) -> JobDeadlineError:
    first = waiting[0]
    if first.job_id is None:
        return JobDeadlineError(
            f"{len(waiting)} batches of {first.ref} were not submitted within {job_timeout}: too many other jobs of "
            "the account were open, or another run was at it. Materialise its tasks and contents again later: that "
            "submits them."
        )
    jobs = join_limited((each.job_id for each in waiting), limit=3)
    return JobDeadlineError(
        f"{len(waiting)} jobs of {first.ref} have not ended within {job_timeout}, and go on ({jobs}). "
        "Once they have ended, the completion sensor has them collected; "
        "or materialise its tasks and contents again, to wait for them."
    )


def _poll_waiting(poller: JobPoller, waiting: Sequence[Submission], report: ProgressReporter) -> bool:
    try:
        return bool(poller.poll(waiting, on_ended=report.tasks_ended))
    except ScrapeDoError as error:
        if not error.transient:
            raise
        return False  # an incident at the service says nothing about the jobs: only the deadline ends the wait
