"""Many generations: each is collected once its jobs have ended, and no error of one stops another."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import APIStatusError, UnparsableResponseError
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.coordinator import collect_generations
from scrapedo_dagster.engine.collection.limits import CollectLimits
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.collection.progress import Progress
from scrapedo_dagster.engine.errors import JobDeadlineError, NothingSubmittedError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.clock import ManualClock
from tests.support.collection import wait_and_collect

Urls = Callable[..., list[str]]
POLL = Backoff(initial=0.01, maximum=0.05)
TIMEOUT = timedelta(seconds=30)
UNREADABLE = {"endpoint": "get_task", "kind": "status", "status": 200, "body": "html", "match": "*/products/2"}


@pytest.fixture
def collector(
    submitter: Callable[..., Any],
    async_client: Callable[..., AsyncScrapeDoAsyncAPIClient],
    tables: PartitionTables,
    account: str,
) -> Callable[..., PartitionCollector]:
    """The collector of a partition, by default of `mon`. Its batches have two targets."""

    def collector(partition: str = "mon", **settings: Any) -> PartitionCollector:
        ref = PartitionRef(account, "shop", partition)
        into = settings.pop("into", replace(tables, partition=partition))
        return PartitionCollector(submitter(batch_size=2, ref=ref), async_client, into, **settings)

    return collector


def begin(collector: PartitionCollector, urls: list[str]) -> int:
    return collector.submitter.begin(validated_entries(urls, "raise")).number


def test_other_batches_are_collected_if_one_cannot_be_read(
    collector: Callable[..., PartitionCollector],
    urls: Urls,
    emulator: Emulator,
    ledger: Ledger,
    eventually: Callable[..., Any],
) -> None:
    worker = collector()
    generation = begin(worker, urls(1, 2, 3, 4))
    worker.submitter.submit(generation)
    eventually(lambda: [job.status for job in emulator.jobs()] == ["success"] * 2)
    emulator.set_faults({"calls": [UNREADABLE]})
    with pytest.raises(UnparsableResponseError):
        wait_and_collect(worker, generation, poll=POLL)
    assert [each.state for each in ledger.submissions.find()] == [State.FINISHED, State.COLLECTED]
    emulator.set_faults({})
    wait_and_collect(worker, generation, poll=POLL)
    assert [each.state for each in ledger.submissions.find()] == [State.COLLECTED] * 2


def test_other_batches_are_collected_if_one_cannot_be_sent(
    collector: Callable[..., PartitionCollector],
    urls: Urls,
    emulator: Emulator,
    ledger: Ledger,
    eventually: Callable[..., Any],
) -> None:
    worker = collector()
    generation = begin(worker, urls(1, 2, 3, 4))
    refused = {"endpoint": "create_job", "kind": "status", "status": 401, "match": "*/products/3"}
    emulator.set_faults({"calls": [refused]})
    with pytest.raises(APIStatusError):
        wait_and_collect(worker, generation, poll=POLL)
    eventually(lambda: emulator.jobs()[0].status == "success")
    with pytest.raises(APIStatusError):
        wait_and_collect(worker, generation, poll=POLL)
    assert [each.state for each in ledger.submissions.find()] == [State.COLLECTED, State.PLANNED]


@dataclass(frozen=True)
class SlowTables(PartitionTables):
    """Tables of a worker that another one overtakes before its parts are committed."""

    overtake: Callable[[], None] = lambda: None
    overtaken: list[bool] = field(default_factory=list)

    @contextmanager
    def open_parts(self, submission: SubmissionWithTargets) -> Iterator[Any]:
        with super().open_parts(submission) as parts:
            yield parts
            if not self.overtaken:
                self.overtaken.append(True)
                self.overtake()


def test_two_workers_that_collect_the_same_batch_leave_one_row_a_target(
    collector: Callable[..., PartitionCollector],
    urls: Urls,
    emulator: Emulator,
    tables: PartitionTables,
    written: Callable[..., Any],
) -> None:
    """The other worker retries failed targets, ours does not; and our part replaces its recorded, complete one."""
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2", "times": 1}]})
    other = collector(retries=1)
    generation = begin(other, urls(1, 2))
    slow = SlowTables(
        tables.tasks, tables.contents, "mon", overtake=lambda: wait_and_collect(other, generation, poll=POLL)
    )
    wait_and_collect(collector(into=slow, retries=0), generation, poll=POLL)
    assert [(row["url"], row["status"]) for row in written(1)] == [(url, "success") for url in urls(1, 2)]
    assert tables.tasks.dataset(["mon"]).count_rows() == 2


def test_an_error_of_one_partition_stops_no_other(
    collector: Callable[..., PartitionCollector], urls: Urls, emulator: Emulator
) -> None:
    emulator.set_faults({"calls": [UNREADABLE]})
    unreadable, readable, never_submitted = collector("mon"), collector("tue"), collector("wed")
    generations = {
        never_submitted: 1,
        unreadable: begin(unreadable, urls(1, 2, 3)),
        readable: begin(readable, urls(4, 5, 6)),
    }
    collected: list[PartitionRef] = []
    errors = collect_generations(generations, job_timeout=TIMEOUT, on_collected=collected.append, poll=POLL)
    assert collected == [readable.ref]
    assert {ref.partition: type(error) for ref, error in errors.items()} == {
        "mon": UnparsableResponseError,
        "wed": NothingSubmittedError,
    }
    assert "shop, partition 'wed': nothing was submitted" in str(errors[never_submitted.ref])


def test_each_group_is_completed_before_the_next_is_fetched(
    collector: Callable[..., PartitionCollector], urls: Urls, emulator: Emulator, eventually: Callable[..., Any]
) -> None:
    collectors = [collector(day, limits=CollectLimits(group_targets=2)) for day in ("mon", "tue", "wed")]
    generations = {each: begin(each, urls(1, 2)) for each in collectors}
    for each, generation in generations.items():
        each.submitter.submit(generation)
    eventually(lambda: all(job.status == "success" for job in emulator.jobs()))
    fetched: list[int] = []
    errors = collect_generations(
        generations,
        job_timeout=TIMEOUT,
        on_collected=lambda _ref: fetched.append(emulator.requests()["get_task"]),
        poll=POLL,
    )
    assert errors == {}
    assert fetched == [2, 4, 6]


def test_an_open_job_is_an_error_of_its_partition_alone(
    collector: Callable[..., PartitionCollector], urls: Urls, emulator: Emulator, ledger: Ledger, eventually: Any
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*/products/1"}]})
    lingering, ended = collector("mon"), collector("tue")
    generations = {lingering: begin(lingering, urls(1)), ended: begin(ended, urls(2))}
    for each, generation in generations.items():
        each.submitter.submit(generation)
    eventually(lambda: emulator.jobs()[1].status == "success")
    errors = collect_generations(generations, job_timeout=timedelta(seconds=1), poll=POLL)
    [error] = errors.values()
    assert isinstance(error, JobDeadlineError)
    [job] = [each.job_id for each in ledger.submissions.find(states=[State.SUBMITTED])]
    assert f"shop, partition 'mon': 1 jobs have not ended within 0:00:01, and are still running ({job})" in str(error)


def test_the_deadline_bounds_the_wait_and_polls_grow_rare(
    collector: Callable[..., PartitionCollector], urls: Urls, emulator: Emulator
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*"}]})
    worker, clock = collector(), ManualClock()
    generation = begin(worker, urls(1))
    started = clock.now
    errors = collect_generations({worker: generation}, job_timeout=timedelta(hours=1), clock=clock)
    assert [type(error) for error in errors.values()] == [JobDeadlineError]
    assert clock.now - started == pytest.approx(3600)
    assert 120 < emulator.requests()["get_job"] < 300


def test_progress_counts_a_target_that_is_retried_once(
    collector: Callable[..., PartitionCollector], urls: Urls, emulator: Emulator
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2"}]})
    worker = collector(retries=1)
    reports: list[Progress] = []
    generation = begin(worker, urls(1, 2, 3))
    wait_and_collect(worker, generation, poll=POLL, on_progress=reports.append, report_interval=0.0)
    assert {each.targets for each in reports} == {3}
    written = [each.written for each in reports]
    assert written == sorted(written)
    assert written[-1] >= 2  # the last one may come too soon to be reported


@pytest.mark.parametrize("frozen", [True, False], ids=["the host has frozen objects", "nothing is frozen"])
def test_the_garbage_collector_is_left_as_it_was(
    collector: Callable[..., PartitionCollector], urls: Urls, frozen: bool
) -> None:
    worker = collector()
    generation = begin(worker, urls(1))
    if frozen:
        gc.freeze()
    try:
        wait_and_collect(worker, generation, poll=POLL)
        assert bool(gc.get_freeze_count()) == frozen
    finally:
        gc.unfreeze()
