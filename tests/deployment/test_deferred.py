"""Submitted, and brought home by the sensor: a real daemon and webserver, runs in processes of their own."""

import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import yaml
from dagster._core.execution.backfill import BulkActionStatus

from scrapedo_dagster.engine.ledger.states import State
from tests.conftest import find_canary
from tests.deployment.serving import FINISHED, Deployment, deployed, eventually

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
HUNDRED = [f"p{number:02}" for number in range(100)]
BROKEN = {"p13", "p57"}
NO_RETRY = {"dagster/max_retries": "0"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("home")
    # The instance that the repository ships, only quicker.
    settings = yaml.safe_load((HERE.parents[1] / "dagster_home" / "dagster.yaml").read_text())
    settings["run_queue"] = settings.pop("concurrency")["runs"] | {"dequeue_interval_seconds": 1}
    settings["run_monitoring"]["poll_interval_seconds"] = 1
    with deployed(home, HERE / "definitions.py", yaml.safe_dump(settings), daemon=HERE / "daemon.py") as deployment:
        deployment.site.open("open")
        yield deployment
    assert find_canary(home) == []


@pytest.fixture(autouse=True)
def _calm(deployment: Deployment) -> Iterator[None]:
    yield
    deployment.emulator.set_faults({})


_days = (f"2026-{month:02}-{day:02}" for month in range(1, 10) for day in range(1, 28))


@pytest.fixture
def day() -> str:
    return next(_days)


def active_runs(deployment: Deployment) -> list[dg.DagsterRun]:
    return [run for run in deployment.instance.get_runs() if run.status not in FINISHED]


def runs_of(deployment: Deployment, partition: str) -> list[dg.DagsterRun]:
    """The runs of one partition, oldest first."""
    return list(deployment.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition})))[::-1]


def is_of(run: dg.DagsterRun, dataset: str) -> bool:
    """Whether a run of all that Dagster has launched is of a dataset."""
    return run.job_name.startswith(dataset) or dataset in str(run.asset_selection)


def rows(deployment: Deployment, dataset: str, table: str) -> dict[str, int]:
    """How many rows each partition has, as any tool sees them."""
    frame = pd.read_parquet(deployment.data / dataset / table)
    return frame.groupby("partition", observed=True).size().to_dict()


def wait_until_home(deployment: Deployment, dataset: str, *partitions: str) -> None:
    """Wait until Dagster shows the results of the partitions as materialized; then they are in Parquet."""
    for table in ("tasks", "contents"):
        key = dg.AssetKey([dataset, table])
        eventually(
            lambda key=key: set(partitions) <= deployment.instance.get_materialized_partitions(key),
            f"{len(partitions)} partitions of {key} to come home",
            within=90,
        )
        found = rows(deployment, dataset, table)
        assert {each: found.get(each) for each in partitions} == dict.fromkeys(partitions, 3)


def submitted_once(deployment: Deployment, gate: str) -> bool:
    counts = {url: each.submitted for url, each in deployment.emulator.targets().items() if f"/{gate}/" in url}
    return set(counts.values()) == {1}


def test_submitting_a_range_ends_and_no_run_waits_until_the_sensor_brings_it_home(deployment: Deployment) -> None:
    days = [next(_days) for _ in range(3)]
    run_id = deployment.launch("shop_submit", days[0], days[-1])
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.SUCCESS
    eventually(lambda: all(deployment.jobs(day)[0].status == "pending" for day in days), "the jobs to be worked on")
    eventually(lambda: active_runs(deployment) == [], "all runs to end")
    assert {deployment.jobs(day)[0].status for day in days} == {"pending"}
    for day in days:
        deployment.site.open(day)
    wait_until_home(deployment, "shop", *days)
    home = deployment.instance.get_latest_materialization_event(dg.AssetKey(["shop", "contents"])).timestamp
    seconds = home - pd.read_parquet(deployment.data / "shop" / "tasks")["end_time"].max().timestamp()
    print(f"\n{seconds:.1f} s from the end of the last job to rows in Parquet, with a sensor that looks every second")
    assert seconds < 60  # generous: the machine may be busy
    collecting = [run for run in deployment.instance.get_runs() if run.job_name == "shop_collect"]
    print(f"{len(collecting)} collecting runs for {len(days)} partitions")


def test_a_backfill_of_100_partitions_is_few_runs_and_only_broken_partitions_are_red(deployment: Deployment) -> None:
    backfill = deployment.launch_backfill(HUNDRED, ["submitted", "jobs"])
    assert deployment.end_of_backfill(backfill) == BulkActionStatus.COMPLETED_FAILED
    good = sorted(set(HUNDRED) - BROKEN)
    wait_until_home(deployment, "submitted", *good)
    jobs, *results = (deployment.partitions("submitted", table) for table in ("jobs", "tasks", "contents"))
    assert (jobs["materialized"], jobs["failed"]) == (set(good), BROKEN)
    for each in results:
        assert (each["materialized"], each["failed"]) == (set(good), set())
    assert {job.status for job in deployment.jobs("hundred")} == {"success"}
    runs = Counter(run.job_name for run in deployment.instance.get_runs() if is_of(run, "submitted"))
    print("runs:", dict(runs))
    assert sum(runs.values()) <= 8


def test_a_backfill_of_all_three_assets_ends_and_the_sensor_completes_it(deployment: Deployment) -> None:
    """The step that collects does not run where one that submits has failed, so that all of it is red for a moment."""
    tables = ("jobs", "tasks", "contents")
    backfill = deployment.launch_backfill(HUNDRED, *(["waited_for", table] for table in tables))
    assert deployment.end_of_backfill(backfill) == BulkActionStatus.COMPLETED_FAILED
    good = set(HUNDRED) - BROKEN
    wait_until_home(deployment, "waited_for", *good)
    for table in tables:
        found = deployment.partitions("waited_for", table)
        assert (found["materialized"], found["failed"]) == (good, BROKEN)
    runs = Counter(run.job_name for run in deployment.instance.get_runs() if is_of(run, "waited_for"))
    print("runs:", dict(runs))
    assert sum(runs.values()) <= 8


def test_what_a_terminated_run_could_not_cancel_is_canceled_by_the_sensor(deployment: Deployment, day: str) -> None:
    # Dagster would retry it: for Dagster, a run that dies while it is canceled has failed.
    run_id = deployment.launch_until_it_waits("shop_at_once", day, NO_RETRY)
    run = deployment.instance.get_run_by_id(run_id)
    deployment.instance.report_run_canceling(run)  # as Terminate does first, and then the machine is gone
    os.kill(deployment.pid_of(run_id), signal.SIGKILL)
    eventually(lambda: all(job.canceled for job in deployment.jobs(day)), "the job to be canceled")
    eventually(lambda: active_runs(deployment) == [], "all runs to end")
    assert [each.state for each in deployment.submissions_with_targets(day)] == [State.CANCELED]
    assert submitted_once(deployment, day)
    assert [run.job_name for run in runs_of(deployment, day)] == ["shop_at_once"]


def test_the_partitions_of_killed_runs_are_brought_home_and_not_submitted_again(deployment: Deployment) -> None:
    """With a retry of the run, which Dagster starts; and without, by the sensor alone."""
    retried, _, left = next(_days), next(_days), next(_days)  # no neighbours: one run would collect both
    runs = [
        deployment.launch_until_it_waits("shop_at_once", retried),
        deployment.launch_until_it_waits("shop_at_once", left, NO_RETRY),
    ]
    for run_id in runs:
        os.kill(deployment.pid_of(run_id), signal.SIGKILL)
    assert [deployment.end_of(run_id) for run_id in runs] == [dg.DagsterRunStatus.FAILURE] * 2
    for day in (retried, left):
        deployment.site.open(day)
    wait_until_home(deployment, "shop", retried, left)
    assert submitted_once(deployment, retried)
    assert submitted_once(deployment, left)
    assert {run.job_name for run in runs_of(deployment, left)} == {"shop_at_once", "shop_collect"}
    assert [run.job_name for run in runs_of(deployment, retried)].count("shop_at_once") == 2


def test_a_failed_collecting_run_is_launched_again_as_the_next_attempt(deployment: Deployment, day: str) -> None:
    fault = {"endpoint": "get_task", "kind": "status", "status": 500, "match": f"*/{day}/*", "times": 1}
    deployment.emulator.set_faults({"calls": [fault]})
    assert deployment.end_of(deployment.launch("shop_submit", day)) == dg.DagsterRunStatus.SUCCESS
    deployment.site.open(day)
    wait_until_home(deployment, "shop", day)
    attempts = [run for run in runs_of(deployment, day) if run.job_name == "shop_collect"]
    eventually(lambda: deployment.status(attempts[-1].run_id) in FINISHED, "the end of the last attempt")
    told = [(run.tags["scrapedo/attempt"], deployment.status(run.run_id).value) for run in attempts]
    assert told == [("1", "FAILURE"), ("2", "SUCCESS")]
    assert submitted_once(deployment, day)


def test_dynamic_partitions_are_submitted_and_brought_home(deployment: Deployment) -> None:
    deployment.instance.add_dynamic_partitions("cities", ["open"])
    assert deployment.end_of(deployment.launch("cities_submit", "open")) == dg.DagsterRunStatus.SUCCESS
    wait_until_home(deployment, "cities", "open")


def test_multi_partitions_are_submitted_and_brought_home(deployment: Deployment) -> None:
    keys = [f"{day}|{region}" for day, region in itertools.product(("2026-01-01", "2026-01-02"), ("eu", "us"))]
    run_id = deployment.launch("markets_submit", keys[0], keys[-1])
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.SUCCESS
    wait_until_home(deployment, "markets", *keys)
