"""Progress of collecting: how many targets have ended and are written, the rate, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.ledger.records import PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import UNSENT, State

REPORT_INTERVAL = 5.0
"""Seconds between two reports while targets end or are written."""

_RUNNING = UNSENT | {State.SUBMITTED}


@dataclass(frozen=True)
class Progress:
    """Progress over all partitions. Each target counts once, however often it is submitted.

    Attributes:
        targets: all of them.
        ended: targets that have ended at Scrape.do.
        written: targets whose rows are in Parquet.
        per_second: targets that this run has written a second since it started fetching; before that, targets that have
            ended a second since it started waiting.
        left: time for the remaining targets at this rate, or None if unknown.
    """

    targets: int
    ended: int
    written: int
    per_second: float
    left: timedelta | None

    def __str__(self) -> str:
        left = "unknown time" if self.left is None else self.left
        return (
            f"{self.written} of {self.targets} targets written, {self.ended} ended at Scrape.do; "
            f"{self.per_second:.3g} per second, {left} left"
        )


class ProgressReporter:
    """Counts targets over all partitions and reports at intervals, which grow while nothing changes.

    Args:
        on_progress: called with each report.
        interval: seconds between two reports while targets end or are written.
        clock: measures the rate and waits.
    """

    def __init__(
        self,
        on_progress: Callable[[Progress], None],
        *,
        interval: float = REPORT_INTERVAL,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._on_progress = on_progress
        self._interval = interval
        self._clock = clock
        self._targets: dict[PartitionRef, int] = {}
        self._ended: dict[PartitionRef, int] = {}
        self._ended_of_open_jobs: dict[int, int] = {}
        self._written: dict[PartitionRef, int] = {}
        self._ended_before = 0
        self._fetched = 0
        self._started_at = clock.monotonic()
        self._fetching_since: float | None = None
        self._last: tuple[int, int] = (0, 0)
        self._changed_at = self._started_at
        self._next_report_at = self._started_at + interval

    def update(self, ref: PartitionRef, submissions: Sequence[Submission], lost: Sequence[Submission] = ()) -> None:
        """Count the targets of a partition by the state of its submissions. The files of `lost` ones are missing."""
        # Targets that are submitted again, in a batch of a later attempt, were in a batch of the first one.
        targets = sum(each.target_count for each in submissions if not each.attempt)
        running = [each for each in submissions if each.state in _RUNNING]
        unwritten = [each for each in submissions if each.state != State.COLLECTED or each in lost]
        ended = targets - _target_count(running)
        if ref not in self._targets:
            self._ended_before += ended
        self._targets[ref] = targets
        self._ended[ref] = ended
        # A canceled batch shares targets with the one that resumes it, until it is collected.
        self._written[ref] = max(0, targets - _target_count(unwritten))
        for each in submissions:
            if each.state not in _RUNNING:
                self._ended_of_open_jobs.pop(each.id, None)

    def tasks_ended(self, submission: Submission, amount: int) -> None:
        """Set how many tasks of an open job have ended."""
        ended = min(amount, submission.target_count)
        if submission.id not in self._ended_of_open_jobs:
            self._ended_before += ended  # perhaps before this run started
        self._ended_of_open_jobs[submission.id] = ended
        self.report_if_due()

    def start_fetching(self) -> None:
        """Measure the rate of written targets from now on."""
        if self._fetching_since is None:
            self._fetching_since = self._clock.monotonic()

    def target_written(self, ref: PartitionRef) -> None:
        """Count a target of a batch that is being collected."""
        self._written[ref] += 1
        self._fetched += 1
        self.report_if_due()

    def report_if_due(self) -> None:
        """Report unless the last report is too recent."""
        now = self._clock.monotonic()
        if now < self._next_report_at:
            return
        progress = self._progress(now)
        if (progress.ended, progress.written) != self._last:
            self._last, self._changed_at = (progress.ended, progress.written), now
        # Dagster keeps each line: a day of waiting for one job must not make thousands of them.
        self._next_report_at = now + max(self._interval, (now - self._changed_at) / 10)
        self._on_progress(progress)

    def wait(self, seconds: float) -> None:
        """Sleep, and report meanwhile."""
        until = self._clock.monotonic() + seconds
        while True:
            self.report_if_due()
            now = self._clock.monotonic()
            if now >= until:
                return
            self._clock.sleep(max(0.0, min(until, self._next_report_at) - now))

    def _progress(self, now: float) -> Progress:
        targets = sum(self._targets.values())
        ended = sum(self._ended.values()) + sum(self._ended_of_open_jobs.values())
        written = min(targets, sum(self._written.values()))
        if self._fetched and self._fetching_since is not None:
            done, to_do, seconds = self._fetched, targets - written, now - self._fetching_since
        else:
            done, to_do, seconds = ended - self._ended_before, targets - ended, now - self._started_at
        rate = max(0, done) / max(seconds, 0.001)
        # When all targets have ended and none is fetched yet, the time to fetch them is unknown.
        is_known = rate and (to_do or self._fetched)
        return Progress(targets, ended, written, rate, timedelta(seconds=round(to_do / rate)) if is_known else None)


def _target_count(submissions: Sequence[Submission]) -> int:
    return sum(each.target_count for each in submissions)
