"""Progress: each target counts once, the rate is of this run alone, and reports come at intervals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from scrapedo_dagster.engine.collection.progress import Progress, ProgressReporter
from scrapedo_dagster.engine.ledger.states import State
from tests.support.clock import ManualClock
from tests.support.records import REF, submission


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def reports() -> list[Progress]:
    return []


@pytest.fixture
def report(clock: ManualClock, reports: list[Progress]) -> ProgressReporter:
    return ProgressReporter(reports.append, clock=clock)


@pytest.fixture
def line(report: ProgressReporter, clock: ManualClock, reports: list[Progress]) -> Callable[..., str]:
    """The line of the log so many seconds later."""

    def line(after: float = 6) -> str:
        clock.sleep(after)
        report.report_if_due()
        return str(reports[-1])

    return line


def test_targets_written_by_earlier_runs_count_but_not_for_the_rate(
    report: ProgressReporter, line: Callable[..., str]
) -> None:
    report.update(REF, [submission(State.COLLECTED, 150, number=1), submission(State.FINISHED, 50, number=2)])
    assert line() == "150 of 200 targets written, 200 ended at Scrape.do; 0 per second, unknown time left"
    report.start_fetching()
    for _ in range(10):
        report.target_written(REF)
    assert line(10) == "160 of 200 targets written, 200 ended at Scrape.do; 1 per second, 0:00:40 left"


def test_targets_that_are_submitted_again_count_once(report: ProgressReporter, line: Callable[..., str]) -> None:
    retried = [submission(State.COLLECTED, 3), submission(State.SUBMITTED, 1, attempt=1, number=2)]
    report.update(REF, retried)
    assert line().startswith("2 of 3 targets written, 2 ended")
    report.update(REF, [submission(State.COLLECTED, 3), submission(State.COLLECTED, 1, attempt=1, number=2)])
    assert line().startswith("3 of 3 targets written, 3 ended")


def test_targets_of_a_resumed_generation_count_once(report: ProgressReporter, line: Callable[..., str]) -> None:
    report.update(REF, [submission(State.FINISHED, 10), submission(State.SUBMITTED, 4, attempt=1, number=2)])
    assert line().startswith("0 of 10 targets written, 6 ended")
    report.update(REF, [submission(State.COLLECTED, 10), submission(State.SUBMITTED, 4, attempt=1, number=2)])
    assert line().startswith("6 of 10 targets written, 6 ended")


def test_targets_of_lost_files_are_not_written(report: ProgressReporter, line: Callable[..., str]) -> None:
    both = [submission(State.COLLECTED, 10, number=1), submission(State.COLLECTED, 5, number=2)]
    report.update(REF, both, lost=both[1:])
    assert line().startswith("10 of 15 targets written")


def test_before_fetching_the_rate_is_that_of_the_jobs(report: ProgressReporter, line: Callable[..., str]) -> None:
    job = submission(State.SUBMITTED, 1000)
    report.update(REF, [job])
    assert line(10) == "0 of 1000 targets written, 0 ended at Scrape.do; 0 per second, unknown time left"
    report.tasks_ended(job, 300)  # perhaps before this run started
    assert line(10) == "0 of 1000 targets written, 300 ended at Scrape.do; 0 per second, unknown time left"
    report.tasks_ended(job, 500)
    assert line(20) == "0 of 1000 targets written, 500 ended at Scrape.do; 5 per second, 0:01:40 left"
    report.update(REF, [submission(State.FINISHED, 1000)])
    assert line(30).startswith("0 of 1000 targets written, 1000 ended at Scrape.do; 10 per second, unknown time left")


def test_reports_come_while_waiting_and_grow_rare_while_nothing_changes(
    report: ProgressReporter, reports: list[Progress]
) -> None:
    report.update(REF, [submission(State.SUBMITTED, 10)])
    report.wait(31)
    assert len(reports) == 6
    report.wait(timedelta(days=1).total_seconds())
    assert 50 < len(reports) < 150
    report.tasks_ended(submission(State.SUBMITTED, 10), 5)
    seen = len(reports)
    report.wait(2 * 3600)
    assert len(reports) > seen + 20


def test_waiting_takes_the_requested_seconds(report: ProgressReporter, clock: ManualClock) -> None:
    before = clock.now
    report.wait(12.5)
    assert clock.now - before == pytest.approx(12.5)
    report.wait(0)
    assert clock.now - before == pytest.approx(12.5)
