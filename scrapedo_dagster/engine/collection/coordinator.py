"""Collects generations of many partitions: waits for their jobs, and collects each generation as it becomes ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import partial

from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.collection.partition_collector import GenerationStatus, PartitionCollector
from scrapedo_dagster.engine.collection.progress import REPORT_INTERVAL, Progress, ProgressReporter
from scrapedo_dagster.engine.collection.ready_batches import collect_ready_batches
from scrapedo_dagster.engine.errors import JobDeadlineError
from scrapedo_dagster.engine.ledger.records import PartitionRef, Submission
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.text import join_limited

_POLL = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)


def collect_generations(
    generations: Mapping[PartitionCollector, int],
    *,
    job_timeout: timedelta,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_collected: Callable[[PartitionRef], None] = lambda _ref: None,
    poll: Backoff = _POLL,
    report_interval: float = REPORT_INTERVAL,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[PartitionRef, Exception]:
    """Collect each generation once its jobs have ended. Returns the errors of those that failed.

    All partitions are of one account. An error of one partition stops no other.

    Args:
        generations: the generation to collect of each partition.
        job_timeout: bounds the whole wait. Jobs that are open then stay open, and their partitions have a
            JobDeadlineError.
        on_progress: called at intervals, which grow while nothing changes.
        on_collected: called with each partition whose generation is complete.
        poll: seconds between two polls of open jobs.
        report_interval: seconds between two calls of `on_progress` while targets end or are written.
        clock: measures the timeout and waits.
    """
    report = ProgressReporter(on_progress, interval=report_interval, clock=clock)
    coordinator = _Coordinator(
        [_Generation(collector, number, report) for collector, number in generations.items()], report, on_collected
    )
    coordinator.run(job_timeout, poll, clock)
    return {each.collector.ref: each.error for each in coordinator.generations if each.error is not None}


class CollectionState(Enum):
    """The state of a generation that is being collected.

    ```
    waiting -> ready -> collecting -> ready | waiting
                 |-> complete            any -> failed
    ```
    """

    WAITING = "its jobs have not ended, or it has batches that cannot be sent yet"
    READY = "rows can be written, batches sent, or the generation completed"
    COLLECTING = "rows are being written"
    COMPLETE = "its files are the data of the partition"
    FAILED = "an error keeps it from being collected now"


@dataclass(eq=False)
class _Generation:
    """A generation that is being collected. `status` is what was read last."""

    collector: PartitionCollector
    number: int
    report: ProgressReporter
    state: CollectionState = CollectionState.WAITING
    status: GenerationStatus = field(default_factory=GenerationStatus)
    error: Exception | None = None

    def refresh(self) -> None:
        """Read the status, and leave `waiting` if there is something to do."""
        self.status = self.collector.status(self.number, self.report)
        only_waits = self.status.waiting and not (self.status.ready or self.status.unsent)
        self.state = CollectionState.WAITING if only_waits else CollectionState.READY

    def advance(self) -> None:
        """Do the next step after the ready batches were collected: send batches, wait, or complete the generation."""
        if self.state is CollectionState.COLLECTING:
            self.refresh()
        if self.status.ready:
            return
        if self.status.unsent:
            if _poll(self.collector.poller, self.status.waiting, self.report) or self.collector.send(self.status):
                self.refresh()
            else:
                self.state = CollectionState.WAITING
        elif not self.status.waiting:
            self.collector.complete(self.number, self.status)
            self.state = CollectionState.COMPLETE

    def fail(self, error: Exception) -> None:
        """Record the error. The generation can be collected again later."""
        self.error = error
        self.state = CollectionState.FAILED


@dataclass(frozen=True)
class _Coordinator:
    """Collects generations in groups, and polls open jobs in between."""

    generations: Sequence[_Generation]
    report: ProgressReporter
    on_collected: Callable[[PartitionRef], None]

    def run(self, job_timeout: timedelta, poll: Backoff, clock: Clock) -> None:
        """Return once every generation is complete or has failed."""
        deadline = clock.monotonic() + job_timeout.total_seconds()
        poller: JobPoller | None = None
        polls = 0
        self._count_targets()
        while True:
            for group in self._ready_groups():
                self._collect_group(group)
            waiting = self._waiting()
            if not waiting:
                return
            poller = poller or waiting[0].collector.new_poller()
            jobs = [job for each in waiting for job in each.status.waiting]
            if _poll(poller, jobs, self.report):
                polls = 0
            elif (left := deadline - clock.monotonic()) <= 0:
                for each in waiting:
                    each.fail(_deadline_error(each.status, job_timeout))
                return
            else:
                self.report.wait(min(poll.pause(polls), left))
                polls += 1

    def _waiting(self) -> list[_Generation]:
        return [each for each in self.generations if each.state is CollectionState.WAITING]

    def _count_targets(self) -> None:
        """Count all targets in the report before the first partition is collected."""
        for each in self.generations:
            with suppress(Exception):  # `refresh` raises it again
                self.report.update(each.collector.ref, each.collector.submissions(each.number))

    def _ready_groups(self) -> Iterator[list[_Generation]]:
        """Yield groups of ready generations: many small ones, or few large ones.

        Each group is completed before the next one is read, so that partitions become visible in Dagster early.
        """
        group: list[_Generation] = []
        targets = 0
        for each in self._waiting():
            self._attempt(each, each.refresh)
            if each.state is CollectionState.READY:
                group.append(each)
                targets += sum(batch.target_count for batch in each.status.ready)
            if targets >= each.collector.limits.group_targets:
                yield group
                group, targets = [], 0
        yield group

    def _collect_group(self, group: list[_Generation]) -> None:
        """Collect and advance generations until each waits, is complete or has failed."""
        while group:
            for each in group:
                if each.status.ready:  # paid results first: a batch that cannot be sent must not delay them
                    each.state = CollectionState.COLLECTING
            errors = collect_ready_batches({each.collector: each.status.ready for each in group}, self.report)
            for each in group:
                if (error := errors.get(each.collector)) is not None:
                    each.fail(error)
                    continue
                self._attempt(each, each.advance)
                if each.state is CollectionState.COMPLETE:
                    self._attempt(each, partial(self.on_collected, each.collector.ref))
            group = [each for each in group if each.state is CollectionState.READY]

    def _attempt(self, generation: _Generation, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - other partitions are collected whatever it is
            generation.fail(error)


def _poll(poller: JobPoller, jobs: Sequence[Submission], report: ProgressReporter) -> bool:
    """Poll open jobs. Returns whether the ledger changed."""
    try:
        return bool(poller.poll(jobs, on_ended=report.tasks_ended))
    except ScrapeDoError as error:
        if not error.transient:
            raise
        return False  # the state of the jobs is unknown: only the deadline ends the wait


def _deadline_error(status: GenerationStatus, job_timeout: timedelta) -> JobDeadlineError:
    first, *_ = pending = status.waiting or status.unsent
    if first.job_id is None:
        return JobDeadlineError(
            f"{first.ref}: {len(pending)} batches were not submitted within {job_timeout}: too many other jobs of the "
            "account were open, or another run is submitting them. Materialize its tasks and contents again later, "
            "which submits them."
        )
    jobs = join_limited((each.job_id for each in pending), limit=3)
    return JobDeadlineError(
        f"{first.ref}: {len(pending)} jobs have not ended within {job_timeout}, and are still running ({jobs}). "
        "The completion sensor has them collected once they have ended; or materialize its tasks and contents again to "
        "wait for them."
    )
