"""Events by partition: exactly the failed partitions are red, and each of the others is reported once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from scrapedo_dagster import ScrapeDoDataset
from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.submission.cancel import cancel_all
from scrapedo_dagster.execution.partition_events import PartitionEvents
from scrapedo_dagster.execution.steps import collect_step
from tests.support.dagster import with_step

pytestmark = pytest.mark.slow

Shop = Callable[..., ScrapeDoDataset]
Run = Callable[..., dg.ExecuteInProcessResult]
Events = Callable[[str], "Counter[str | None]"]
Pages = Callable[[str], list[str]]
KEYS = "abcd"


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """The message of the failed step."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.error_display_string)


def logged(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(each.user_message for each in instance.all_logs(result.run_id))


def one_each(keys: str) -> Counter[str | None]:
    return Counter(keys)


@pytest.fixture
def without_b(shop: Shop, pages: Pages) -> Callable[..., ScrapeDoDataset]:
    """A dataset that cannot list the targets of partition b."""

    def without_b(**settings: Any) -> ScrapeDoDataset:
        def targets(context: dg.AssetExecutionContext) -> list[str]:
            if context.partition_key == "b":
                raise ValueError("no list for b today")
            return pages(context.partition_key)

        return shop(targets=targets, **settings)

    return without_b


def test_empty_lists_replace_what_was_there_and_the_run_that_submits_warns_of_them(
    shop: Shop, pages: Pages, materialize: Run, instance: dg.DagsterInstance, data: Path, events: Events
) -> None:
    listed = {key: pages(key) for key in KEYS}
    dataset = shop(targets=lambda context: listed[context.partition_key])
    first = materialize(*dataset.assets, between=("a", "d"))
    assert "no targets were listed" not in logged(instance, first)
    listed["b"], listed["d"] = [], []
    second = materialize(*dataset.assets, between=("a", "d"))
    assert second.success
    [warning] = [line for line in logged(instance, second).splitlines() if "no targets were listed" in line]
    assert warning.startswith("shop, 2 partitions ('b', 'd'): no targets were listed.")
    assert events("shop/tasks") == one_each("abcd" * 2)
    assert set(pd.read_parquet(data / "shop" / "tasks")["partition"]) == {"a", "c"}


def test_a_partition_without_targets_is_red_and_the_others_are_submitted_and_collected(
    without_b: Shop, materialize: Run, events: Events
) -> None:
    dataset = without_b()
    result = materialize(dataset.assets[0], between=("a", "d"))
    assert not result.success
    assert "1 of 4 partitions failed" in failure_of(result)
    assert "'b': ValueError: no list for b today" in failure_of(result)
    assert events("shop/jobs") == one_each("acd")
    collected = materialize(dataset.assets[1], between=("a", "d"))
    assert not collected.success
    assert "'b': shop, partition 'b': nothing was submitted" in failure_of(collected)
    assert events("shop/tasks") == events("shop/contents") == one_each("acd")


@pytest.mark.parametrize("retries", [0, 2])
def test_a_retry_policy_doubles_no_event(
    without_b: Shop, materialize: Run, events: Events, emulator: Emulator, retries: int
) -> None:
    dataset = without_b(retry_policy=dg.RetryPolicy(max_retries=retries))
    result = materialize(dataset.assets[0], between=("a", "d"))
    assert [event.is_step_up_for_retry for event in result.all_events].count(True) == 0
    assert events("shop/jobs") == one_each("acd")
    assert {count.submitted for count in emulator.targets().values()} == {1}


def test_a_single_partition_is_retried_by_its_policy(
    shop: Shop, materialize: Run, pages: Pages, events: Events, emulator: Emulator
) -> None:
    calls: list[int] = []

    def targets(_context: dg.AssetExecutionContext) -> list[str]:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("the database is away")
        return pages("b")

    dataset = shop(targets=targets, retry_policy=dg.RetryPolicy(max_retries=1))
    assert materialize(*dataset.assets, partition_key="b").success
    assert (len(calls), events("shop/jobs"), events("shop/tasks")) == (2, {"b": 1}, {"b": 1})
    assert len(emulator.jobs()) == 1


@pytest.mark.parametrize("partitioned", [True, False])
def test_one_partition_alone_fails_with_its_own_error(
    shop: Shop, materialize: Run, events: Events, partitioned: bool
) -> None:
    def targets(_context: dg.AssetExecutionContext) -> list[str]:
        raise ValueError("no list today")

    dataset = shop(targets=targets, **({} if partitioned else {"partitions_def": None}))
    result = materialize(dataset.assets[0], **({"partition_key": "a"} if partitioned else {}))
    assert "ValueError: no list today" in failure_of(result)
    assert events("shop/jobs") == {}


def test_a_partition_that_scrape_do_refuses_is_red_and_the_next_run_submits_it(
    shop: Shop, materialize: Run, events: Events, emulator: Emulator
) -> None:
    dataset = shop()
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 400, "match": "*of=c"}]})
    result = materialize(dataset.assets[0], between=("a", "d"))
    assert "400" in failure_of(result)
    assert events("shop/jobs") == one_each("abd")
    emulator.set_faults({})
    assert materialize(dataset.assets[1], between=("a", "d")).success
    assert events("shop/tasks") == one_each(KEYS)
    assert {count.submitted for count in emulator.targets().values()} == {1}


class FullTables(PartitionTables):
    """Tables on a disk that is full."""

    def open_parts(self, submission: SubmissionWithTargets) -> Any:
        raise OSError(28, "No space left on device")


class FullForPartitionC(Dataset):
    """A dataset whose partition c is on a full disk."""

    def tables(self, storage: Any, partition: str | None) -> PartitionTables:
        tables = super().tables(storage, partition)
        return FullTables(tables.tasks, tables.contents, partition) if partition == "c" else tables


@pytest.mark.parametrize("single", [False, True])
def test_a_partition_that_cannot_be_written_is_red_and_paid_once(
    shop: Shop,
    materialize: Run,
    events: Events,
    emulator: Emulator,
    single: bool,
) -> None:
    dataset = shop()
    assert materialize(dataset.assets[0], between=("a", "d")).success
    collect = partial(collect_step, dataset=FullForPartitionC(**dict(dataset.dataset)))
    where: Any = {"partition_key": "c"} if single else {"between": ("a", "d")}
    result = materialize(with_step(dataset.assets[1], collect), **where)
    assert "No space left on device" in failure_of(result)
    assert events("shop/tasks") == events("shop/contents") == one_each("" if single else "abd")
    assert materialize(dataset.assets[1], partition_key="c").success
    assert events("shop/tasks") == one_each("c" if single else KEYS)
    assert {count.submitted for count in emulator.targets().values()} == {1}


class UnreadableOnceComplete(Dataset):
    """A dataset whose storage fails as soon as partition b is complete."""

    def tables(self, storage: Any, partition: str | None) -> PartitionTables:
        tables = super().tables(storage, partition)
        if partition == "b" and tables.tasks.current_generation(partition):
            raise OSError("the bucket does not answer")
        return tables


def test_a_partition_whose_results_cannot_be_summarized_keeps_no_other_from_being_collected(
    shop: Shop, materialize: Run, events: Events
) -> None:
    jobs, results = shop().assets
    collect = partial(collect_step, dataset=UnreadableOnceComplete(**dict(shop().dataset)))
    result = materialize(jobs, with_step(results, collect), between=("a", "d"))
    assert "'b': OSError: the bucket does not answer" in failure_of(result)
    assert events("shop/tasks") == one_each("acd")


def test_checks_that_cannot_be_evaluated_hide_no_failed_partition(instance: dg.DagsterInstance) -> None:
    key = dg.AssetKey("rows")

    def evaluate_checks(_partitions: Any) -> Any:
        raise OSError("the bucket does not answer")

    @dg.multi_asset(specs=[dg.AssetSpec(key)], partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def step(context) -> Any:  # type: ignore[no-untyped-def]
        events = PartitionEvents[int](context, [key], ["a", "b"], lambda rows: {key: {"rows": rows}}, evaluate_checks)
        events.succeeded("a", 3)
        events.failed("b", ValueError("no list today"))
        return events.materialize_results()

    result = dg.materialize([step], instance=instance, raise_on_error=False, partition_key="b")
    assert "1 of 2 partitions failed" in failure_of(result)
    assert "'b': ValueError: no list today" in failure_of(result)
    [record] = instance.fetch_materializations(key, limit=2).records
    assert record.partition_key == "a"
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["rows"].value == 3
    assert "OSError: the bucket does not answer" in logged(instance, result)


def test_a_run_of_a_range_reports_each_partition_once_with_its_own_numbers(
    shop: Shop, materialize: Run, events: Events, instance: dg.DagsterInstance, emulator: Emulator
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2?of=b"}]})
    assert materialize(*shop().assets, between=("a", "d")).success
    for table in ("jobs", "tasks", "contents"):
        assert events(f"shop/{table}") == one_each(KEYS)
    records = instance.fetch_materializations(dg.AssetKey(["shop", "tasks"]), limit=10).records
    succeeded = {
        each.partition_key: each.asset_materialization.metadata["scrapedo/succeeded"].value for each in records
    }
    assert succeeded == {"a": 3, "b": 2, "c": 3, "d": 3}


def test_many_partitions_cost_few_lines_of_the_log(shop: Shop, materialize: Run, instance: dg.DagsterInstance) -> None:
    keys = [f"p{number:02}" for number in range(12)]
    dataset = shop(
        partitions_def=dg.StaticPartitionsDefinition(keys),
        targets=lambda context: [f"http://x/{context.partition_key}"],
    )
    result = materialize(*dataset.assets, between=(keys[0], keys[-1]))
    assert result.success
    lines = [each.user_message for each in instance.all_logs(result.run_id) if each.dagster_event is None]
    about = [line for line in lines if line.startswith("shop") and "written" not in line]
    assert len(about) < 6
    assert "shop, partition 'p11': submitted 1 targets (12 of 12 partitions)." in about
    [total] = [line for line in about if "0 of 12 targets" in line]
    assert "in 12 partitions ('p00', 'p01'" in total
    assert "targets failed in 12 partitions" in total


def test_an_unpartitioned_dataset_is_reported_once(shop: Shop, materialize: Run, events: Events) -> None:
    assert materialize(*shop(partitions_def=None).assets).success
    assert [events(f"shop/{table}") for table in ("jobs", "tasks", "contents")] == [{None: 1}] * 3


def test_a_target_of_a_canceled_and_continued_generation_counts_once(
    shop: Shop,
    materialize: Run,
    pages: Pages,
    emulator: Emulator,
    ledger: Ledger,
    token: str,
    instance: dg.DagsterInstance,
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*/3?of=x"}]})
    dataset = shop(targets=[*pages("x"), "nonsense"], on_invalid_target="skip", partitions_def=None)
    assert materialize(dataset.assets[0]).success
    deadline = time.monotonic() + 20
    while sum(count.charged for count in emulator.targets().values()) < 2:
        assert time.monotonic() < deadline, "the other targets do not end"
        time.sleep(0.01)
    with ScrapeDoAsyncAPIClient(token, base_url=emulator.base_url) as client:
        cancel_all(ledger, client, ledger.submissions.find(), reason="a person", seconds=20)
    emulator.set_faults({})
    assert materialize(*dataset.assets).success
    numbers = {}
    for table in ("jobs", "tasks"):
        [record] = instance.fetch_materializations(dg.AssetKey(["shop", table]), limit=1).records
        numbers[table] = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    assert sorted(count.submitted for count in emulator.targets().values()) == [1, 1, 2]
    jobs = numbers["jobs"]
    assert [jobs[f"scrapedo/{name}"] for name in ("continued", "targets", "submitted", "rejected", "jobs")] == [
        *(True, 4, 3, 1, 2),
    ]
    assert numbers["tasks"]["scrapedo/targets"] == numbers["tasks"]["dagster/row_count"] == 4
    assert numbers["tasks"]["scrapedo/succeeded"] == 3


# --- interrupts


@pytest.fixture
def interrupt_when(instance: dg.DagsterInstance) -> Iterator[Callable[..., None]]:
    """Interrupt this process once a condition holds; after the request to terminate its run was recorded, if any."""
    threads: list[threading.Thread] = []

    def interrupt_when(condition: Callable[[], object], *, terminated: bool) -> None:
        def wait_and_interrupt() -> None:
            deadline = time.monotonic() + 20
            while not condition():
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)
            if terminated:
                instance.report_run_canceling(instance.get_runs()[0])
            os.kill(os.getpid(), signal.SIGINT)

        threads.append(threading.Thread(target=wait_and_interrupt))
        threads[-1].start()

    yield interrupt_when
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("terminated", [True, False])
def test_partitions_collected_before_an_interrupt_are_green(
    shop: Shop,
    materialize: Run,
    events: Events,
    emulator: Emulator,
    interrupt_when: Callable[..., None],
    data: Path,
    terminated: bool,
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "match": f"*of={key}"} for key in "cd"]})
    dataset = shop()
    assert materialize(dataset.assets[0], between=("a", "d")).success

    polls_before: list[int] = []

    def two_are_collected() -> bool:
        """Both are complete, and have been reported: the step polls the other two again."""
        if len([*data.rglob("contents/*/_generation.json")]) == 2:
            polls_before.append(emulator.requests()["get_job"])
        return bool(polls_before) and emulator.requests()["get_job"] > polls_before[0]

    interrupt_when(two_are_collected, terminated=terminated)
    materialize(dataset.assets[1], between=("a", "d"))
    assert events("shop/tasks") == events("shop/contents") == one_each("ab")
    canceled = {str(job.targets[0])[-1]: job.canceled for job in emulator.jobs()}
    assert canceled == {"a": False, "b": False, "c": terminated, "d": terminated}


def test_partitions_submitted_before_a_termination_are_not_green(
    shop: Shop, materialize: Run, events: Events, emulator: Emulator, pages: Pages, instance: dg.DagsterInstance
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger"}]})

    def targets(context: dg.AssetExecutionContext) -> list[str]:
        if context.partition_key == "c":
            instance.report_run_canceling(context.run)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return pages(context.partition_key)

    materialize(shop(targets=targets).assets[0], between=("a", "d"))
    assert events("shop/jobs") == {}
    assert [job.canceled for job in emulator.jobs()] == [True, True]


# --- many partitions at once


CollectReportingEvery = Callable[[float, ScrapeDoDataset], dg.AssetsDefinition]


@pytest.fixture
def collect_reporting_every() -> CollectReportingEvery:
    """The assets that collect a dataset, with a log line of progress every so many seconds."""
    return lambda seconds, dataset: with_step(
        dataset.assets[1], partial(collect_step, dataset=dataset.dataset, report_interval=seconds)
    )


@pytest.mark.slow
def test_a_hundred_waiting_partitions_are_polled_together_and_progress_is_logged(
    shop: Shop,
    materialize: Run,
    events: Events,
    emulator: Emulator,
    instance: dg.DagsterInstance,
    collect_reporting_every: CollectReportingEvery,
) -> None:
    keys = [f"p{number:03}" for number in range(100)]
    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 1500, "match": "*of=p099"}]})  # three seconds here
    dataset = shop(partitions_def=dg.StaticPartitionsDefinition(keys))
    assert materialize(dataset.assets[0], between=(keys[0], keys[-1])).success
    before = Counter(emulator.requests())
    result = materialize(collect_reporting_every(0.2, dataset), between=(keys[0], keys[-1]))
    assert result.success
    asked = Counter(emulator.requests()) - before
    assert events("shop/tasks") == Counter(keys)
    # Each job once as it is collected; what is open together, by a page a hundred.
    assert asked["list_jobs"] <= 6
    assert asked["get_job"] <= 100 + 20
    lines = [line for line in logged(instance, result).splitlines() if "targets written" in line]
    assert all("of 300 targets written" in line and "per second" in line and "left" in line for line in lines)
    assert 2 <= len(lines) <= 60


def test_progress_counts_a_target_that_is_retried_once(
    shop: Shop,
    materialize: Run,
    emulator: Emulator,
    instance: dg.DagsterInstance,
    collect_reporting_every: CollectReportingEvery,
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2?of=b"}]})
    dataset = shop(retry_failed_targets=1)
    result = materialize(dataset.assets[0], collect_reporting_every(0.0, dataset), between=("a", "b"))
    assert result.success
    lines = [line for line in logged(instance, result).splitlines() if "targets written" in line]
    written = [int(line.split()[1]) for line in lines]
    assert all("of 6 targets written" in line for line in lines)
    assert written == sorted(written)
    assert written[-1] >= 5


def test_a_partition_whose_jobs_do_not_end_keeps_no_other_from_being_collected(
    shop: Shop, materialize: Run, events: Events, emulator: Emulator
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*of=a"}]})
    dataset = shop(job_deadline=timedelta(seconds=2))
    result = materialize(*dataset.assets, between=("a", "d"))
    assert "1 of 4 partitions failed" in failure_of(result)
    [job] = [each for each in emulator.jobs() if "of=a" in each.targets[0]]
    late = (
        f"'a': JobDeadlineError: shop, partition 'a': 1 jobs have not ended within 0:00:02, and are still running "
        f"({job.job_id})"
    )
    assert late in failure_of(result)
    assert "materialize its tasks and contents again" in failure_of(result)
    assert events("shop/tasks") == one_each("bcd")


def test_a_partition_that_waits_for_its_turn_keeps_no_other_from_being_collected(
    shop: Shop, materialize: Run, events: Events, emulator: Emulator, pages: Pages
) -> None:
    """With `max_open_jobs`, what is not sent yet may have to wait as long as a job of somebody else runs."""
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*of=stuck"}]})
    other = shop("other", partitions_def=None, targets=pages("stuck"))
    assert materialize(other.assets[0]).success
    emulator.set_faults(
        {
            "targets": [{"kind": "linger", "match": "*of=stuck"}],
            "calls": [{"endpoint": "create_job", "kind": "status", "status": 400, "match": "*of=a"}],
        }
    )
    assert not materialize(shop().assets[0], between=("a", "b")).success
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*of=stuck"}]})
    dataset = shop(max_open_jobs=1, job_deadline=timedelta(seconds=1))
    result = materialize(dataset.assets[1], between=("a", "b"))
    assert "'a': JobDeadlineError: shop, partition 'a': 1 batches were not submitted within 0:00:01" in failure_of(
        result
    )
    assert events("shop/tasks") == one_each("b")


def test_a_partition_whose_metadata_cannot_be_made_fails_alone(instance: dg.DagsterInstance) -> None:
    def to_metadata(result: str) -> dict[dg.AssetKey, dict[str, Any]]:
        if result == "b":
            raise ValueError("no metadata")
        return {dg.AssetKey("numbers"): {"of": result}}

    @dg.multi_asset(
        specs=[dg.AssetSpec("numbers")],
        partitions_def=dg.StaticPartitionsDefinition(list("abc")),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def numbers(context):
        reported = PartitionEvents[str](context, [dg.AssetKey("numbers")], context.partition_keys, to_metadata)
        for key in context.partition_keys:
            try:
                reported.succeeded(key, key)
            except ValueError as error:
                reported.failed(key, error)
        yield from reported.materialize_results()

    edges = zip(("start", "end"), "ac", strict=True)
    result = dg.materialize(
        [numbers],
        instance=instance,
        raise_on_error=False,
        tags={f"dagster/asset_partition_range_{edge}": key for edge, key in edges},
    )
    assert not result.success
    assert instance.get_materialized_partitions(dg.AssetKey("numbers")) == {"a", "c"}
