"""The asset checks: when they fail, how severely, and which partitions their metadata lists."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from scrapedo_dagster import ScrapeDoDataset
from scrapedo_dagster.emulator import Emulator

pytestmark = pytest.mark.slow

Shop = Callable[..., ScrapeDoDataset]
Run = Callable[..., dg.ExecuteInProcessResult]
NAMES = {"every_target_has_a_row", "enough_succeeded", "nothing_expired", "credits_within_budget"}


@pytest.fixture
def check(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Callable[..., dict[str, dg.AssetCheckEvaluation]]:
    """Run the checks of a dataset alone. Returns their evaluations by name."""

    def check(dataset: ScrapeDoDataset, **where: Any) -> dict[str, dg.AssetCheckEvaluation]:
        keys = [key for checks in dataset.asset_checks for key in checks.check_keys]
        job = dg.define_asset_job("check", dg.AssetSelection.checks(*keys))
        defs = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources, jobs=[job]))
        result = defs.resolve_job_def("check").execute_in_process(instance=instance, raise_on_error=False, **where)
        assert result.success
        return {each.check_name: each for each in result.get_asset_check_evaluations()}

    return check


def failures_of(evaluation: dg.AssetCheckEvaluation) -> list[tuple[Any, ...]]:
    """The rows of the table of failed partitions."""
    table = evaluation.metadata["scrapedo/failures"]
    assert isinstance(table, dg.TableMetadataValue)
    return [tuple(record.data[column.name] for column in table.schema.columns) for record in table.records]


def test_a_good_partition_passes_every_check_in_the_run_that_collects_it(
    shop: Shop, materialize: Run, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    dataset = shop(max_credits=100)
    assert materialize(dataset.assets[0], between=("a", "b")).success
    defs = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources))
    result = defs.resolve_job_def("shop_collect").execute_in_process(
        instance=instance,
        tags={"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"},
    )
    evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert set(evaluations) == NAMES
    assert all(each.passed for each in evaluations.values())
    assert {each.metadata["scrapedo/partitions"].value for each in evaluations.values()} == {2}
    assert evaluations["credits_within_budget"].metadata["scrapedo/credits_within_budget"].value == 6
    assert evaluations["enough_succeeded"].metadata["scrapedo/enough_succeeded"].value == 1.0


def test_collected_partitions_are_checked_also_when_others_of_their_run_fail(
    shop: Shop,
    materialize: Run,
    collect: Callable[..., dg.ExecuteInProcessResult],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    events: Callable[[str], Counter[str | None]],
) -> None:
    """Dagster skips the step of checks then, and an expired result in a green partition must not go unnoticed."""
    emulator.set_faults({"targets": [{"kind": "gone", "match": "*/1?of=c"}]})
    dataset = shop(max_credits=100, min_success_ratio=0.5)
    for key in "acd":
        assert materialize(dataset.assets[0], partition_key=key).success
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "d"}
    result = collect(dg.RunRequest(job_name="shop_collect", tags=tags), dataset)
    assert not result.success
    assert events("shop/tasks") == {"a": 1, "c": 1, "d": 1}
    # As the UI shows them: of this run, none of them planned and never evaluated.
    keys = [key for checks in dataset.asset_checks for key in checks.check_keys]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert {key.name for key in latest} == NAMES
    assert {each.run_id for each in latest.values()} == {result.run_id}
    found = {key.name: each.evaluation for key, each in latest.items()}
    passed = {name: each.passed for name, each in found.items()}
    assert passed == {name: name != "nothing_expired" for name in NAMES}
    assert found["nothing_expired"].severity == dg.AssetCheckSeverity.ERROR
    assert failures_of(found["nothing_expired"]) == [("c", 1)]
    assert {each.metadata["scrapedo/partitions"].value for each in found.values()} == {3}


def test_failed_targets_warn_below_the_ratio_and_list_their_partition(
    shop: Shop, materialize: Run, emulator: Emulator, check: Callable[..., Any]
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/2?of=b"}]})
    dataset = shop(min_success_ratio=0.7)
    assert materialize(*dataset.assets, between=("a", "c")).success
    found = check(dataset)
    assert not found["enough_succeeded"].passed
    assert found["enough_succeeded"].severity == dg.AssetCheckSeverity.WARN
    assert failures_of(found["enough_succeeded"]) == [("b", 2, 3)]
    assert found["enough_succeeded"].metadata["scrapedo/failed_partitions"].value == 1
    assert found["enough_succeeded"].metadata["scrapedo/enough_succeeded"].value == pytest.approx(2 / 3)
    assert found["every_target_has_a_row"].passed
    assert check(shop(min_success_ratio=0.6))["enough_succeeded"].passed


def test_expired_and_gone_results_are_an_error(
    shop: Shop, materialize: Run, emulator: Emulator, check: Callable[..., Any]
) -> None:
    emulator.set_faults({"targets": [{"kind": "gone", "match": "*/1?of=a"}]})
    dataset = shop()
    assert materialize(*dataset.assets, partition_key="a").success
    assert materialize(dataset.assets[0], partition_key="b").success
    emulator.advance(timedelta(days=4))
    assert materialize(dataset.assets[1], partition_key="b").success
    found = check(dataset)["nothing_expired"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.metadata["scrapedo/nothing_expired"].value == 4
    assert failures_of(found) == [("a", 1), ("b", 3)]


def test_a_price_over_the_budget_warns(shop: Shop, materialize: Run, check: Callable[..., Any]) -> None:
    assert materialize(*shop().assets, partition_key="a").success
    found = check(shop(max_credits=2))["credits_within_budget"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert failures_of(found) == [("a", 3, 2)]
    assert "credits_within_budget" not in check(shop())


def test_rows_that_are_missing_are_an_error(
    shop: Shop, materialize: Run, data: Path, check: Callable[..., Any]
) -> None:

    dataset = shop()
    assert materialize(*dataset.assets, partition_key="a").success
    [part] = (data / "shop" / "tasks").rglob("*.parquet")
    table = pq.read_table(part, partitioning=None)
    pq.write_table(table.slice(0, 2), part)
    found = check(dataset)["every_target_has_a_row"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert failures_of(found) == [("a", 3, 2)]


def test_a_partition_without_files_is_listed_and_the_others_are_checked(
    shop: Shop, materialize: Run, data: Path, check: Callable[..., Any]
) -> None:
    dataset = shop()
    assert materialize(*dataset.assets, between=("a", "b")).success
    shutil.rmtree(data / "shop" / "tasks" / "partition=a")
    found = check(dataset)["every_target_has_a_row"]
    assert not found.passed
    assert failures_of(found) == [("a", 3, 0)]
    assert found.metadata["scrapedo/partitions"].value == 2


def test_a_lost_ledger_fails_no_check(
    shop: Shop, materialize: Run, instance: dg.DagsterInstance, check: Callable[..., Any]
) -> None:
    dataset = shop()
    assert materialize(*dataset.assets, partition_key="a").success
    shutil.rmtree(Path(instance.root_directory) / "scrapedo")
    assert all(each.passed for each in check(dataset).values())


def test_targets_that_are_listed_twice_or_invalid_are_counted_as_rows(
    shop: Shop, materialize: Run, pages: Callable[[str], list[str]], check: Callable[..., Any]
) -> None:
    targets = [*pages("x"), *pages("x"), "ftp://files.example"]
    dataset = shop(targets=targets, partitions_def=None, on_invalid_target="skip", retry_failed_targets=1)
    assert materialize(*dataset.assets).success
    found = check(dataset)
    assert found["every_target_has_a_row"].passed
    assert found["every_target_has_a_row"].metadata["scrapedo/every_target_has_a_row"].value == 7


def test_checks_of_nothing_pass(shop: Shop, check: Callable[..., Any]) -> None:
    assert all(each.passed for each in check(shop()).values())


def test_checks_of_multi_partitions_check_those_of_their_run(
    shop: Shop, materialize: Run, check: Callable[..., Any]
) -> None:
    kinds = {name: dg.StaticPartitionsDefinition(["1", "2"]) for name in ("kind", "site")}
    dataset = shop(partitions_def=dg.MultiPartitionsDefinition(kinds))
    assert materialize(*dataset.assets, between=("1|1", "2|2")).success
    again = materialize(*dataset.assets, *dataset.asset_checks, partition_key="1|2")
    assert {each.metadata["scrapedo/partitions"].value for each in again.get_asset_check_evaluations()} == {1}
    assert check(dataset)["enough_succeeded"].metadata["scrapedo/partitions"].value == 4


def test_a_run_of_checks_alone_checks_its_partition(shop: Shop, materialize: Run, check: Callable[..., Any]) -> None:
    """As `Execute check` in the UI does, and somebody who tags the run."""
    dataset = shop()
    assert materialize(*dataset.assets, between=("a", "c")).success
    assert {each.metadata["scrapedo/partitions"].value for each in check(dataset).values()} == {3}
    of_one = check(dataset, tags={"dagster/partition": "b"})
    assert of_one["every_target_has_a_row"].metadata["scrapedo/every_target_has_a_row"].value == 3
    assert {each.metadata["scrapedo/partitions"].value for each in of_one.values()} == {1}
