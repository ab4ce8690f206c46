"""How far bringing home is: targets that are done, of how many, how many a second, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from scrapedo_dagster.engine.ledger.records import PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import UNSENT, State

_REPORT_EVERY = 5.0  # seconds between two reports while something moves
_UNDER_WAY = UNSENT | {State.SUBMITTED}


@dataclass(frozen=True)
class Progress:
    """How far it is. Each target counts once, however often it is submitted.

    Attributes:
        targets: of all partitions.
        ended: those that have ended at Scrape.do.
        written: those that are in Parquet.
        per_second: how many this run has written since it began to fetch; before that, how many ended while it waited.
        left: how long the others take at this rate, or None while nobody knows.
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


@dataclass
class ProgressReporter:
    """Counts over all partitions, and tells every few seconds; more and more seldom while nothing moves."""

    tell: Callable[[Progress], None]
    started: float = field(default_factory=time.monotonic)
    _targets: dict[PartitionRef, int] = field(default_factory=dict)
    _ended: dict[PartitionRef, int] = field(default_factory=dict)
    _ended_of_open_jobs: dict[int, int] = field(default_factory=dict)
    _written: dict[PartitionRef, int] = field(default_factory=dict)
    _ended_before: int = 0
    _fetched: int = 0
    _fetching_since: float | None = None
    _due: float = field(default_factory=lambda: time.monotonic() + _REPORT_EVERY)
    _last: tuple[int, int] = (0, 0)
    _moved_at: float = field(default_factory=time.monotonic)

    def update(self, ref: PartitionRef, submissions: Sequence[Submission], lost: Sequence[Submission] = ()) -> None:
        """Where a partition is, by the ledger. The rows of `lost` batches are gone again."""
        # What is submitted again, in a batch of a later attempt, was in one of the first.
        targets = sum(each.target_count for each in submissions if not each.attempt)
        under_way = [each for each in submissions if each.state in _UNDER_WAY]
        unwritten = [each for each in submissions if each.state != State.COLLECTED or each in lost]
        ended = targets - _targets_of(under_way)
        if ref not in self._targets:
            self._ended_before += ended
        self._targets[ref] = targets
        self._ended[ref] = ended
        # A canceled batch may have targets in common with the one that goes on with it, until it is collected.
        self._written[ref] = max(0, targets - _targets_of(unwritten))
        for each in submissions:
            if each.state not in _UNDER_WAY:
                self._ended_of_open_jobs.pop(each.id, None)

    def tasks_ended(self, submission: Submission, amount: int) -> None:
        """How far a job is, by the service."""
        ended = min(amount, submission.target_count)
        if submission.id not in self._ended_of_open_jobs:
            self._ended_before += ended  # since when is not known
        self._ended_of_open_jobs[submission.id] = ended
        self.report_if_due()

    def fetching(self) -> None:
        """Targets are being fetched."""
        if self._fetching_since is None:
            self._fetching_since = time.monotonic()

    def target_written(self, ref: PartitionRef) -> None:
        """A target of a batch that is being collected is a row."""
        self._written[ref] += 1
        self._fetched += 1
        self.report_if_due()

    def report_if_due(self) -> None:
        """Tell, unless that was done a moment ago."""
        now = time.monotonic()
        if now < self._due:
            return
        progress = self._progress(now)
        if (progress.ended, progress.written) != self._last:
            self._last, self._moved_at = (progress.ended, progress.written), now
        # Each line is kept: a day of waiting for one job must not be thousands of them.
        self._due = now + max(_REPORT_EVERY, (now - self._moved_at) / 10)
        self.tell(progress)

    def wait(self, seconds: float) -> None:
        """Sleep, and tell in between."""
        until = time.monotonic() + seconds
        while True:
            self.report_if_due()
            now = time.monotonic()
            if now >= until:
                return
            time.sleep(max(0.0, min(until, self._due) - now))

    def _progress(self, now: float) -> Progress:
        targets = sum(self._targets.values())
        ended = sum(self._ended.values()) + sum(self._ended_of_open_jobs.values())
        written = min(targets, sum(self._written.values()))
        if self._fetched and self._fetching_since is not None:
            done, to_do, seconds = self._fetched, targets - written, now - self._fetching_since
        else:
            done, to_do, seconds = ended - self._ended_before, targets - ended, now - self.started
        rate = max(0, done) / max(seconds, 0.001)
        # Where all have ended and nothing is fetched yet, how long fetching takes is not known.
        is_known = rate and (to_do or self._fetched)
        return Progress(targets, ended, written, rate, timedelta(seconds=round(to_do / rate)) if is_known else None)


def _targets_of(submissions: Sequence[Submission]) -> int:
    return sum(each.target_count for each in submissions)
