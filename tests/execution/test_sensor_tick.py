"""The completion sensor, tick by tick: what it launches, and what it cleans up after dead runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import pyarrow.parquet as pq
import pytest

from scrapedo_dagster import ScrapeDoDataset, ScrapeDoResource
from scrapedo_dagster.api import JobRequest, ScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.run_retry_schedule import delay_after
from scrapedo_dagster.engine.ledger.generations import GenerationStore
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import (
    GenerationRecord,
    PartitionRef,
    SubmissionWithTargets,
    account_fingerprint,
)
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.url import default_url
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.execution.steps import collect_step
from tests.support.dagster import with_step

pytestmark = pytest.mark.slow

Shop = Callable[..., ScrapeDoDataset]
Tick = Callable[..., Any]
Events = Callable[[str], "Counter[str | None]"]
Run = Callable[..., dg.ExecuteInProcessResult]
Ended = Callable[[], None]
Later = Callable[..., None]
LeftBehind = Callable[..., SubmissionWithTargets]
Status = dg.DagsterRunStatus


class Killed(BaseException):
    """Ends a tick as the end of its process would: nothing of ours catches it."""


class MovableLedger(Ledger):
    """A ledger whose clock can be moved."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def move_clock(self, **by: float) -> None:
        self.ahead += timedelta(**by)


class HookedGenerations(GenerationStore):
    """Calls a hook before a collecting run is recorded, and another one after it."""

    before: Callable[[list[GenerationRecord]], object] = staticmethod(lambda _records: None)
    after: Callable[[list[GenerationRecord]], object] = staticmethod(lambda _records: None)

    def mark_collection_requested(
        self, records: Iterable[GenerationRecord], key: str, *, again_after: Callable[[int], timedelta]
    ) -> list[GenerationRecord]:
        listed = list(records)
        self.before(listed)
        recorded = super().mark_collection_requested(listed, key, again_after=again_after)
        self.after(recorded)
        return recorded


@pytest.fixture
def ledger(instance: dg.DagsterInstance) -> Iterator[MovableLedger]:
    ledger = MovableLedger(default_url(instance.root_directory))
    yield ledger
    ledger.close()


@pytest.fixture
def later(ledger: MovableLedger) -> Later:
    """Moves the clock of the ledger."""
    return ledger.move_clock


@pytest.fixture
def resources(resources: dict[str, Any], service_url: str, token: str, ledger: MovableLedger) -> dict[str, Any]:
    """Resources whose account has the ledger with the movable clock."""

    class ResourceWithLedger(ScrapeDoResource):
        @property
        def ledger(self) -> Ledger:
            return ledger

    resource = ResourceWithLedger(api_token=token, base_url=service_url, request_timeout=10, max_attempts=3)
    return {**resources, "scrape_do": resource}


@pytest.fixture
def ref(token: str) -> Callable[..., PartitionRef]:
    def ref(partition: str | None, dataset: str = "shop", account: str | None = None) -> PartitionRef:
        return PartitionRef(account or account_fingerprint(token), dataset, partition)

    return ref


def partitions_of(request: dg.RunRequest) -> tuple[str | None, str | None]:
    """The first and the last partition of a run."""
    edges = [request.tags.get(f"dagster/asset_partition_range_{edge}") for edge in ("start", "end")]
    return (edges[0], edges[1]) if edges[0] else (request.partition_key, request.partition_key)


def asked_for(found: Any) -> list[tuple[str | None, str | None]]:
    return sorted((partitions_of(request) for request in found.run_requests), key=str)


@pytest.fixture
def submitted(shop: Shop, materialize: Run, ended: Ended) -> Callable[..., ScrapeDoDataset]:
    """A dataset, some partitions of which are jobs that have ended."""

    def submitted(first: str = "a", last: str = "c", **settings: Any) -> ScrapeDoDataset:
        dataset = shop(**settings)
        assert materialize(dataset.assets[0], between=(first, last)).success
        ended()
        return dataset

    return submitted


# --- what it launches


def test_ended_jobs_are_collected_by_one_run_for_all_neighbors(
    submitted: Shop, tick: Tick, collect: Run, events: Events, tick_log: list[str]
) -> None:
    dataset = submitted()
    found = tick(dataset)
    [request] = found.run_requests
    assert request.job_name == "shop_collect"
    assert partitions_of(request) == ("a", "c")
    assert "shop: collecting 3 partitions, 'a' to 'c' (attempt 1)." in tick_log
    assert collect(request, dataset).success
    assert events("shop/tasks") == events("shop/contents") == {"a": 1, "b": 1, "c": 1}
    assert [tick(dataset, cursor=found.cursor).run_requests for _ in range(2)] == [[], []]


def test_open_jobs_are_waited_for_without_a_run(
    shop: Shop, materialize: Run, tick: Tick, emulator: Emulator, ended: Ended
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "match": "*of=b"}]})
    dataset = shop()
    assert materialize(dataset.assets[0], between=("a", "d")).success
    deadline = time.monotonic() + 10
    while (found := tick(dataset)).run_requests == []:
        assert time.monotonic() < deadline
    assert ("b", "b") not in asked_for(found)
    assert "1 jobs are open" in tick(dataset).skip_message


def test_an_unpartitioned_dataset_is_collected(
    shop: Shop, materialize: Run, tick: Tick, collect: Run, ended: Ended, events: Events
) -> None:
    dataset = shop(partitions_def=None)
    assert materialize(dataset.assets[0]).success
    ended()
    [request] = tick(dataset).run_requests
    assert request.partition_key is None
    assert collect(request, dataset).success
    assert events("shop/tasks") == {None: 1}
    assert tick(dataset).run_requests == []


def test_multi_partitions_are_collected_by_a_run_for_all_combinations(
    shop: Shop, materialize: Run, tick: Tick, collect: Run, ended: Ended, events: Events
) -> None:
    day = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-01-05")
    both = dg.MultiPartitionsDefinition({"day": day, "site": dg.StaticPartitionsDefinition(["x", "y"])})
    dataset = shop(partitions_def=both)
    assert materialize(dataset.assets[0], between=("2026-01-01|x", "2026-01-02|y")).success
    ended()
    found = tick(dataset)
    assert asked_for(found) == [("2026-01-01|x", "2026-01-02|y")]
    assert all(collect(request, dataset).success for request in found.run_requests)
    assert events("shop/tasks") == {f"2026-01-0{day}|{site}": 1 for day in (1, 2) for site in "xy"}
    assert tick(dataset).run_requests == []


def test_one_key_of_a_dimension_is_collected_without_the_others(
    shop: Shop, materialize: Run, tick: Tick, collect: Run, ended: Ended, events: Events
) -> None:
    day = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-01-05")
    both = dg.MultiPartitionsDefinition({"day": day, "site": dg.StaticPartitionsDefinition(["x", "y", "z"])})
    dataset = shop(partitions_def=both)
    assert materialize(dataset.assets[0], between=("2026-01-01|y", "2026-01-03|y")).success
    ended()
    [request] = tick(dataset).run_requests
    assert collect(request, dataset).success
    assert events("shop/tasks") == {f"2026-01-0{day}|y": 1 for day in (1, 2, 3)}


def test_dynamic_partitions_are_collected_and_a_deleted_one_is_logged(
    shop: Shop,
    materialize: Run,
    tick: Tick,
    collect: Run,
    ended: Ended,
    events: Events,
    instance: dg.DagsterInstance,
    tick_log: list[str],
) -> None:
    dataset = shop(partitions_def=dg.DynamicPartitionsDefinition(name="sites"))
    instance.add_dynamic_partitions("sites", ["x", "gone", "y"])
    for key in ("x", "gone", "y"):
        assert materialize(dataset.assets[0], partition_key=key).success
    ended()
    instance.delete_dynamic_partition("sites", "gone")
    found = tick(dataset)
    assert asked_for(found) == [("x", "y")]
    assert collect(found.run_requests[0], dataset).success
    assert events("shop/tasks") == {"x": 1, "y": 1}
    assert any("submitted for partition 'gone' cannot be collected" in line for line in tick_log)


@pytest.mark.parametrize("now_partitioned", [True, False])
def test_results_for_a_former_partitions_definition_are_logged(
    shop: Shop, materialize: Run, tick: Tick, ended: Ended, tick_log: list[str], now_partitioned: bool
) -> None:
    partitioned, plain = shop(), shop(partitions_def=None)
    if now_partitioned:
        assert materialize(plain.assets[0]).success
    else:
        assert materialize(partitioned.assets[0], partition_key="a").success
    ended()
    assert tick(partitioned if now_partitioned else plain).run_requests == []
    label = "unpartitioned data" if now_partitioned else "partition 'a'"
    assert any(f"submitted for {label} cannot be collected" in line for line in tick_log)


def test_one_sensor_collects_two_datasets(
    shop: Shop, materialize: Run, tick: Tick, collect: Run, ended: Ended, events: Events
) -> None:
    one, two = shop("one"), shop("two", partitions_def=None)
    assert materialize(one.assets[0], partition_key="b").success
    assert materialize(two.assets[0]).success
    ended()
    found = tick(one, two)
    assert {request.job_name for request in found.run_requests} == {"one_collect", "two_collect"}
    assert all(collect(request, one, two).success for request in found.run_requests)
    assert (events("one/tasks"), events("two/tasks")) == ({"b": 1}, {None: 1})


def test_datasets_of_one_name_and_different_prefixes_share_a_ledger_and_nothing_else(
    shop: Shop,
    pages: Callable[[str], list[str]],
    materialize: Run,
    tick: Tick,
    collect: Run,
    ended: Ended,
    events: Events,
    data: Path,
) -> None:
    """As two code locations have them."""
    us, de = (shop(key_prefix=key, targets=pages(key), partitions_def=None) for key in ("us", "de"))
    assert materialize(us.assets[0]).success
    assert materialize(de.assets[0]).success
    ended()
    [of_us], [of_de] = tick(us).run_requests, tick(de).run_requests
    assert collect(of_us, us).success
    assert collect(of_de, de).success
    assert (events("us/shop/tasks"), events("de/shop/tasks")) == ({None: 1}, {None: 1})
    for key in ("us", "de"):
        assert pq.read_table(data / key / "shop" / "tasks")["url"].to_pylist() == pages(key)
    evaluated = materialize(*de.assets, *de.asset_checks).get_asset_check_evaluations()
    assert all(each.passed for each in evaluated)


def test_a_run_for_a_dataset_with_another_prefix_is_not_waited_for(
    shop: Shop, materialize: Run, tick: Tick, ended: Ended, recorded: Callable[..., object]
) -> None:
    us, de = shop(key_prefix="us"), shop(key_prefix="de")
    assert materialize(us.assets[0], partition_key="b").success
    ended()
    recorded(de, "shop_collect", Status.STARTED, tags={"scrapedo/dataset": "de/shop"})
    assert asked_for(tick(us)) == [("b", "b")]


def test_rows_of_another_account_or_dataset_are_left_alone(
    shop: Shop, tick: Tick, ledger: Ledger, ref: Callable[..., PartitionRef], emulator: Emulator
) -> None:
    for other in (ref("a", account="other"), ref("a", dataset="other")):
        assert ledger.generations.plan(
            other, 1, [validated_entries(["https://a.example/"], "raise")], fingerprint="f", run_id="r"
        )
    assert tick(shop()).run_requests == []
    assert sum(emulator.requests().values()) == 0


# --- what other runs do meanwhile


@pytest.fixture
def recorded(
    instance: dg.DagsterInstance, resources: dict[str, Any]
) -> Callable[[ScrapeDoDataset, str, Status], dg.DagsterRun]:
    """A run of partition b in some status, recorded without being executed."""

    def recorded(
        dataset: ScrapeDoDataset, job: str, status: Status, tags: Any = None, **arguments: Any
    ) -> dg.DagsterRun:
        keys = dataset.dataset
        jobs = [
            dg.define_asset_job("mine", dg.AssetSelection.assets(keys.tasks_key, keys.contents_key)),
            dg.define_asset_job("mine_too", dg.AssetSelection.assets(keys.jobs_key)),
        ]
        defs = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources, jobs=jobs))
        tags = {"dagster/partition": "b", **(tags or {})}
        return instance.create_run_for_job(defs.resolve_job_def(job), tags=tags, status=status, **arguments)

    return recorded


@pytest.mark.parametrize(
    ("job", "status"),
    [
        *[("shop_collect", Status.STARTED), ("mine", Status.STARTING)],
        *[("mine", Status.CANCELING), ("mine", Status.NOT_STARTED)],
    ],
)
def test_a_partition_that_an_active_run_collects_is_left_to_it(
    submitted: Shop, tick: Tick, recorded: Callable[..., object], status: Status, job: str
) -> None:
    dataset = submitted()
    recorded(dataset, job, status)
    assert asked_for(tick(dataset)) == [("a", "a"), ("c", "c")]


@pytest.mark.parametrize(
    ("job", "status"),
    [
        *[("shop_collect", Status.FAILURE), ("mine", Status.CANCELED)],
        *[("shop_submit", Status.STARTED), ("mine_too", Status.STARTING)],
    ],
)
def test_a_run_that_has_ended_or_does_not_collect_is_not_waited_for(
    submitted: Shop, tick: Tick, recorded: Callable[..., object], status: Status, job: str
) -> None:
    dataset = submitted()
    recorded(dataset, job, status)
    assert asked_for(tick(dataset)) == [("a", "c")]


def test_a_run_that_never_ends_does_not_let_results_expire(
    submitted: Shop, tick: Tick, recorded: Callable[..., object], later: Later
) -> None:
    dataset = submitted()
    recorded(dataset, "shop_collect", Status.NOT_STARTED)
    tick(dataset)
    later(days=2, minutes=1)
    assert asked_for(tick(dataset)) == [("a", "c")]


def test_a_manual_run_is_not_disturbed(
    shop: Shop, materialize: Run, tick: Tick, emulator: Emulator, events: Events
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 500}]})
    dataset = shop()
    results: list[dg.ExecuteInProcessResult] = []
    run = threading.Thread(target=lambda: results.append(materialize(*dataset.assets, between=("a", "b"))))
    run.start()
    ticks = 0
    while run.is_alive():
        assert tick(dataset).run_requests == []
        ticks += 1
    run.join()
    assert results[0].success
    assert ticks > 1
    assert tick(dataset).run_requests == []
    assert events("shop/tasks") == {"a": 1, "b": 1}
    assert {count.submitted for count in emulator.targets().values()} == {1}


# --- what goes wrong


def test_failed_runs_are_launched_again_at_growing_intervals_and_then_an_error_is_logged(
    submitted: Shop, tick: Tick, later: Later, tick_log: list[str]
) -> None:
    dataset = submitted(last="b")
    assert len(tick(dataset).run_requests) == 1
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60):
        later(minutes=minutes, seconds=-5)
        assert tick(dataset).run_requests == []
        later(seconds=5)
        assert len(tick(dataset).run_requests) == 1
    later(days=1)
    tick_log.clear()
    assert tick(dataset).run_requests == []
    assert [line for line in tick_log if "12 runs" in line and "'shop/tasks'" in line]
    assert len(tick_log) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_tick_that_dies_at_its_launch_launches_nothing_twice_and_loses_nothing(
    submitted: Shop, tick: Tick, collect: Run, later: Later, events: Events, ledger: MovableLedger, moment: str
) -> None:
    def die(_records: Any) -> NoReturn:
        raise Killed

    dataset = submitted()
    hooked = HookedGenerations(ledger)
    setattr(hooked, moment, die)
    ledger.generations = hooked
    with pytest.raises(Killed):
        tick(dataset)
    ledger.generations = GenerationStore(ledger)
    launched = []
    for _ in range(3):
        for request in tick(dataset).run_requests:
            launched.append(partitions_of(request))
            assert collect(request, dataset).success
        later(minutes=1, seconds=1)
    assert launched == [("a", "c")]
    assert events("shop/tasks") == {"a": 1, "b": 1, "c": 1}


def test_two_sensors_launch_one_run_for_each_partition(submitted: Shop, tick: Tick, ledger: MovableLedger) -> None:
    dataset = submitted(last="d")
    others: list[Any] = []

    def tick_of_another_sensor(_records: Any) -> None:
        if not others:
            others.append(None)
            others[0] = tick(dataset)

    hooked = HookedGenerations(ledger)
    hooked.before = tick_of_another_sensor
    ledger.generations = hooked
    mine = tick(dataset)
    assert (asked_for(mine), asked_for(others[0])) == ([], [("a", "d")])


def test_partitions_that_another_sensor_has_just_launched_are_left_out(
    submitted: Shop, tick: Tick, ledger: MovableLedger
) -> None:
    def launch_b(records: list[GenerationRecord]) -> None:
        [of_b] = [each for each in records if each.ref.partition == "b"]
        assert GenerationStore(ledger).mark_collection_requested([of_b], "other", again_after=delay_after) == [of_b]

    dataset = submitted(last="d")
    hooked = HookedGenerations(ledger)
    hooked.before = launch_b
    ledger.generations = hooked
    assert asked_for(tick(dataset)) == [("a", "a"), ("c", "d")]


@pytest.mark.parametrize("launched_by", ["the sensor", "a person"])
def test_a_run_that_died_before_it_reported_to_dagster_is_made_green_at_no_cost(
    submitted: Shop,
    tick: Tick,
    collect: Run,
    materialize: Run,
    later: Later,
    events: Events,
    emulator: Emulator,
    launched_by: str,
) -> None:
    dataset = submitted()
    if launched_by == "the sensor":
        assert asked_for(tick(dataset)) == [("a", "c")]

    def collect_and_die(*resources: Any) -> NoReturn:
        collect_step(*resources, dataset.dataset)
        raise RuntimeError("out of memory")

    assert not materialize(with_step(dataset.assets[1], collect_and_die), between=("a", "c")).success
    assert events("shop/tasks") == {}
    before = emulator.requests()["get_task"], len(emulator.jobs())
    later(minutes=2)
    [request] = tick(dataset).run_requests
    assert collect(request, dataset).success
    assert events("shop/tasks") == events("shop/contents") == {"a": 1, "b": 1, "c": 1}
    assert (emulator.requests()["get_task"], len(emulator.jobs())) == before
    later(minutes=2)
    assert tick(dataset).run_requests == []


def test_a_run_that_died_between_the_events_of_two_assets_is_repeated(
    submitted: Shop, tick: Tick, collect: Run, materialize: Run, later: Later, events: Events
) -> None:
    dataset = submitted(last="a")

    def report_half_and_die(*resources: Any) -> Iterator[Any]:
        tasks, _contents = collect_step(*resources, dataset.dataset)
        yield tasks
        raise RuntimeError("out of memory")

    assert asked_for(tick(dataset)) == [("a", "a")]
    assert not materialize(with_step(dataset.assets[1], report_half_and_die), partition_key="a").success
    assert (events("shop/tasks"), events("shop/contents")) == ({"a": 1}, {})
    later(minutes=2)
    assert collect(tick(dataset).run_requests[0], dataset).success
    assert events("shop/contents") == {"a": 1}


# --- what it cleans up


@pytest.fixture
def left_behind(
    ledger: Ledger, emulator: Emulator, token: str, ref: Callable[..., PartitionRef], pages: Callable[[str], list[str]]
) -> LeftBehind:
    """A batch as a run that died left it: claimed, sent or not, its answer lost or not."""

    def left_behind(partition: str | None, state: State, run_id: str, *, sent: bool) -> SubmissionWithTargets:
        urls = pages(partition or "")
        assert ledger.generations.plan(
            ref(partition), 1, [validated_entries(urls, "raise")], fingerprint="f", run_id=run_id
        )
        [planned] = ledger.submissions.with_targets(ref(partition), 1)
        if state == State.PLANNED:
            return planned
        claimed = ledger.submissions.claim(planned, run_id=run_id, fingerprint="f")
        assert claimed is not None
        if sent:
            with ScrapeDoAsyncAPIClient(token, base_url=emulator.base_url) as client:
                job = client.create_job(JobRequest(targets=urls))
        if state == State.SUBMITTED:
            return ledger.submissions.mark_submitted(claimed, job.job_id, job.task_ids)
        return ledger.submissions.mark_uncertain(claimed, "lost") if state == State.UNCERTAIN else claimed

    return left_behind


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCERTAIN])
def test_a_submission_whose_run_is_gone_is_adopted(
    shop: Shop, tick: Tick, collect: Run, left_behind: LeftBehind, tick_log: list[str], ended: Ended,
    emulator: Emulator, state: State,
) -> None:  # fmt: skip
    dataset = shop()
    left_behind("a", state, "a run that nobody knows", sent=True)
    ended()
    assert tick(dataset).run_requests == []
    [request] = tick(dataset).run_requests
    [job] = emulator.jobs()
    assert any(f"it is job {job.job_id}" in line for line in tick_log)
    assert collect(request, dataset).success
    assert {count.submitted for count in emulator.targets().values()} == {1}


def test_a_submission_that_never_arrived_is_sent_by_the_run_that_collects(
    shop: Shop, tick: Tick, collect: Run, left_behind: LeftBehind, later: Later, emulator: Emulator,
    tick_log: list[str],
) -> None:  # fmt: skip
    dataset = shop()
    left_behind("a", State.SUBMITTING, "gone", sent=False)
    assert tick(dataset).run_requests == []
    later(minutes=4)
    [request] = tick(dataset).run_requests
    assert any("it never arrived" in line for line in tick_log)
    assert collect(request, dataset).success
    assert {count.submitted for count in emulator.targets().values()} == {1}


def test_a_claim_of_a_run_that_never_ends_is_reconciled_once_its_lease_is_over(
    shop: Shop, tick: Tick, left_behind: LeftBehind, recorded: Callable[..., dg.DagsterRun],
    later: Later, ledger: Ledger,
) -> None:  # fmt: skip
    dataset = shop()
    run = recorded(dataset, "shop_submit", Status.STARTED)
    claimed = left_behind("a", State.SUBMITTING, run.run_id, sent=True)
    tick(dataset)
    assert ledger.submissions.get(claimed.id).state == State.SUBMITTING
    later(minutes=4)
    tick(dataset)
    assert ledger.submissions.get(claimed.id).state in {State.SUBMITTED, State.FINISHED}


@pytest.mark.parametrize(
    ("status", "canceled"),
    [(Status.CANCELED, True), (Status.FAILURE, False), (Status.SUCCESS, False), (Status.CANCELING, False)],
)
def test_live_jobs_are_canceled_only_if_their_run_was_terminated(
    shop: Shop, tick: Tick, left_behind: LeftBehind, recorded: Callable[..., dg.DagsterRun],
    emulator: Emulator, ledger: Ledger, tick_log: list[str], status: Status, canceled: bool,
) -> None:  # fmt: skip
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    dataset = shop()
    run = recorded(dataset, "shop_submit", status)
    submission = left_behind("a", State.SUBMITTED, run.run_id, sent=True)
    assert tick(dataset).run_requests == []
    assert [job.canceled for job in emulator.jobs()] == [canceled]
    assert (ledger.submissions.get(submission.id).state == State.CANCELED) is canceled
    assert any("its run was terminated; 1 of its open jobs" in line for line in tick_log) is canceled
    assert tick(dataset).run_requests == []


def test_jobs_of_a_run_that_was_started_again_are_not_canceled(
    shop: Shop, tick: Tick, left_behind: LeftBehind, recorded: Callable[..., dg.DagsterRun],
    emulator: Emulator,
) -> None:  # fmt: skip
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    dataset = shop()
    run = recorded(dataset, "shop_submit", Status.CANCELED)
    of_first = {"root_run_id": run.run_id, "parent_run_id": run.run_id}
    recorded(dataset, "shop_submit", Status.SUCCESS, {f"dagster/{name}": run.run_id for name in of_first}, **of_first)
    left_behind("a", State.SUBMITTED, run.run_id, sent=True)
    tick(dataset)
    assert [job.canceled for job in emulator.jobs()] == [False]


def test_a_submission_without_a_run_is_not_owned_by_an_active_run(
    shop: Shop, tick: Tick, left_behind: LeftBehind, recorded: Callable[..., dg.DagsterRun]
) -> None:
    dataset = shop()
    recorded(dataset, "shop_submit", Status.STARTED)
    left_behind("a", State.PLANNED, None, sent=False)  # type: ignore[arg-type]
    assert asked_for(tick(dataset)) == [("a", "a")]
