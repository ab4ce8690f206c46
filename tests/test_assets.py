"""A dataset from targets to Parquet: every target is one row and paid once, after every kind of failure."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from scrapedo_dagster import (
    ScrapeDoDataset,
    ScrapeDoParquetIOManager,
    ScrapeDoResource,
    ScrapeOptions,
    Target,
    build_ad_hoc_dataset,
    build_scrape_do_assets,
    build_scrape_do_sensor,
    scrape_do_assets,
)
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite

pytestmark = pytest.mark.slow


@pytest.fixture
def emulator(token: str) -> Iterator[Emulator]:
    """Slow enough that a job is seen before it ends."""
    with Emulator(token=token, speed=50) as emulator:
        yield emulator


DAY = "2026-01-02"
Materialize = Callable[..., dg.ExecuteInProcessResult]
daily = dg.DailyPartitionsDefinition(start_date="2026-01-01")


def dataset_of(*urls: str, **settings: Any) -> ScrapeDoDataset:
    @scrape_do_assets(name="shop", **settings)
    def shop(_context: dg.AssetExecutionContext) -> list[str]:
        return list(urls)

    return shop


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table as any tool sees them, in the order of the targets."""
    frame = pd.read_parquet(data / "shop" / table, dtype_backend="pyarrow")
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """The error of the failed step, as the UI shows it."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.error_display_string)


@pytest.fixture
def pages(site: DemoSite) -> list[str]:
    return [f"{site.base_url}/{DAY}/products/{number}" for number in range(1, 9)]


def test_every_target_is_one_row_in_its_order_with_its_status(
    materialize: Materialize, pages: list[str], site: DemoSite, data: Path
) -> None:
    refused = "http://127.0.0.1:1/"
    targets = [*pages, f"{site.base_url}/{DAY}/no-such-page", refused]
    result = materialize(*dataset_of(*targets, options=ScrapeOptions(timeout=5000)).assets)
    assert result.success
    tasks = rows(data, "tasks")
    assert [(row["position"], row["url"]) for row in tasks] == list(enumerate(targets))
    assert [row["status"] for row in tasks] == ["success"] * 9 + ["error"]
    assert [row["status_code"] for row in tasks[:9]] == [200] * 8 + [404]
    assert tasks[-1]["error_message"]
    assert [row["url"] for row in rows(data, "contents")] == targets[:9]


def test_contents_are_the_bytes_of_the_pages(materialize: Materialize, pages: list[str], data: Path) -> None:
    assert materialize(*dataset_of(*pages).assets).success
    for task, content in zip(rows(data, "tasks"), rows(data, "contents"), strict=True):
        assert content["task_id"] == task["task_id"]
        assert hashlib.sha256(content["content"]).hexdigest() == task["content_sha256"]
        assert len(content["content"]) == task["content_length"]
        assert content["text"].encode(task["charset"]) == content["content"]
        assert task["content_type"] == "text/html"
        assert task["credits_used"] == 1
        assert task["duration_ms"] >= 0
        assert task["expires_at"] > task["end_time"]


def test_a_page_in_another_charset_is_kept_as_bytes_and_read_as_text(
    materialize: Materialize, site: DemoSite, data: Path
) -> None:
    old_page, image = f"{site.base_url}/{DAY}/products/3", f"{site.base_url}/{DAY}/images/1.png"
    assert materialize(*dataset_of(old_page, image).assets).success
    page, picture = rows(data, "contents")
    with pytest.raises(UnicodeDecodeError):
        page["content"].decode()
    assert page["text"] == page["content"].decode("windows-1252")
    assert picture["content"].startswith(b"\x89PNG")
    assert picture["text"] is None


def test_results_that_scrape_do_has_lost_are_rows_with_their_reason(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    emulator.set_faults(
        {"targets": [{"kind": "missing", "match": "*/products/2"}, {"kind": "gone", "match": "*/products/5"}]}
    )
    assert materialize(*dataset_of(*pages).assets).success
    tasks = rows(data, "tasks")
    assert [row["status"] for row in tasks] == [
        *["success", "expired", "success", "success"],
        *["gone", "success", "success", "success"],
    ]
    assert "404" in tasks[1]["error_message"]
    assert "410" in tasks[4]["error_message"]
    assert len(rows(data, "contents")) == 6


def test_the_finished_tasks_of_a_failed_job_are_kept(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    emulator.set_faults({"jobs": [{"end_status": "error"}], "targets": [{"kind": "error", "match": "*/products/3"}]})
    assert materialize(*dataset_of(*pages).assets).success
    assert [row["status"] for row in rows(data, "tasks")].count("success") == 7
    assert len(rows(data, "contents")) == 7


def test_a_job_that_expired_before_it_was_collected_is_rows_with_their_reason(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    jobs, results = dataset_of(*pages).assets
    assert materialize(jobs).success
    emulator.advance(timedelta(days=3, seconds=1))
    assert materialize(results).success
    assert {row["status"] for row in rows(data, "tasks")} == {"expired"}
    assert len(rows(data, "tasks")) == 8


@pytest.mark.parametrize(
    "wire",
    [
        {"shuffle_task_ids": True, "normalize_urls": True},
        {"absent": "go", "fraction_digits": 9, "list_headers": True, "times_before_end": "hidden"},
        {"absent": "null"},
    ],
)
def test_results_belong_to_their_targets_however_the_service_writes_its_answers(
    materialize: Materialize, emulator: Emulator, site: DemoSite, data: Path, wire: dict[str, Any]
) -> None:
    emulator.set_faults({"wire": wire})
    page = f"{site.base_url.replace('http', 'HTTP')}/{DAY}/products"
    targets = [f"{page}/{number}" for number in (3, 1, 2, 1, 3)]
    assert materialize(*dataset_of(*targets).assets).success
    tasks = rows(data, "tasks")
    assert [row["url"] for row in tasks] == targets
    by_target: dict[str, set[bytes]] = {}
    for content in rows(data, "contents"):
        by_target.setdefault(content["url"], set()).add(content["content"])
    assert sorted(by_target) == sorted(set(targets))
    assert all(len(pages) == 1 for pages in by_target.values())
    assert len(set.union(*by_target.values())) == 3


def test_a_target_that_is_listed_twice_is_paid_once_and_is_two_rows(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    targets = [pages[0], pages[1], pages[0]]
    assert materialize(*dataset_of(*targets).assets).success
    tasks = rows(data, "tasks")
    assert [row["url"] for row in tasks] == targets
    assert tasks[0]["task_id"] == tasks[2]["task_id"]
    assert [row["credits_used"] for row in tasks] == [1, 1, 0]
    assert len(rows(data, "contents")) == 2
    assert {count.submitted for count in emulator.targets().values()} == {1}


def test_more_than_a_thousand_targets_are_several_jobs_with_a_part_each(
    materialize: Materialize, emulator: Emulator, site: DemoSite, data: Path
) -> None:
    targets = [f"{site.base_url}/{DAY}/products/{1 + number % 8}?copy={number}" for number in range(1003)]
    assert materialize(*dataset_of(*targets).assets).success
    assert [len(job.request["Targets"]) for job in emulator.jobs()] == [1000, 3]
    assert [row["url"] for row in rows(data, "tasks")] == targets
    assert len(list((data / "shop" / "tasks").glob("*.parquet"))) == 2


def test_a_partition_without_targets_is_complete_and_empty(
    materialize: Materialize, emulator: Emulator, data: Path
) -> None:
    assert materialize(*dataset_of().assets).success
    assert rows(data, "tasks") == []
    assert rows(data, "contents") == []
    assert emulator.jobs() == []


def test_collecting_again_costs_nothing_and_changes_nothing(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    jobs, results = dataset_of(*pages).assets
    assert materialize(jobs, results).success
    before = rows(data, "tasks"), rows(data, "contents"), emulator.requests()["get_task"]
    assert materialize(results).success
    assert (rows(data, "tasks"), rows(data, "contents"), emulator.requests()["get_task"]) == before
    assert {count.submitted for count in emulator.targets().values()} == {1}


def test_submitting_again_is_a_new_generation_that_replaces_the_old_one(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    assert materialize(*dataset_of(*pages).assets).success
    assert materialize(*dataset_of(*pages[:3]).assets).success
    assert [row["generation"] for row in rows(data, "tasks")] == [2, 2, 2]
    assert [row["url"] for row in rows(data, "contents")] == pages[:3]
    assert len(emulator.jobs()) == 2


def test_results_are_replaced_also_where_the_ledger_was_lost(
    materialize: Materialize, instance: dg.DagsterInstance, pages: list[str], data: Path
) -> None:
    for targets in (pages, pages[:4], pages[:2]):
        assert materialize(*dataset_of(*targets).assets).success
        assert [row["url"] for row in rows(data, "tasks")] == targets
        shutil.rmtree(Path(instance.root_directory) / "scrapedo")


def test_jobs_that_are_not_collected_yet_are_continued_not_submitted_again(
    materialize: Materialize, emulator: Emulator, pages: list[str]
) -> None:
    jobs, results = dataset_of(*pages).assets
    first, second = materialize(jobs), materialize(jobs)
    continued = [
        event.materialization.metadata["scrapedo/continued"].value
        for result in (first, second)
        for event in result.get_asset_materialization_events()
    ]
    assert continued == [False, True]
    assert len(emulator.jobs()) == 1
    assert materialize(results).success
    assert materialize(jobs).success
    assert len(emulator.jobs()) == 2


def test_results_without_jobs_name_what_to_materialize(materialize: Materialize, pages: list[str]) -> None:
    _, results = dataset_of(*pages).assets
    result = materialize(results)
    assert not result.success
    assert "shop: nothing was submitted. Materialize its jobs first" in failure_of(result)


def test_invalid_targets_can_be_rows_instead_of_errors(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    @scrape_do_assets(name="shop", on_invalid_target="skip")
    def shop(_context: dg.AssetExecutionContext) -> list[str | Target]:
        return [Target(pages[0], key="sku-1"), Target("ftp://files.example", key="sku-2"), pages[1]]

    assert materialize(*shop.assets).success
    tasks = rows(data, "tasks")
    assert [row["status"] for row in tasks] == ["success", "rejected", "success"]
    assert [row["target_key"] for row in tasks] == ["sku-1", "sku-2", None]
    assert "not an http or https URL" in tasks[1]["error_message"]
    assert list(emulator.targets()) == pages[:2]


def test_failed_targets_can_be_submitted_again_alone(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/3", "times": 2}]})
    assert materialize(*dataset_of(*pages, retry_failed_targets=2).assets).success
    assert [row["status"] for row in rows(data, "tasks")] == ["success"] * 8
    assert sorted(row["position"] for row in rows(data, "tasks")) == list(range(8))
    counts = {url: count.submitted for url, count in emulator.targets().items()}
    assert counts == dict.fromkeys(pages, 1) | {pages[2]: 3}


@pytest.mark.parametrize(("limit", "message"), [({"max_credits": 7}, "max_credits is 7"), ({}, "the account has 5")])
def test_too_expensive_targets_are_refused_before_anything_is_sent(
    site: DemoSite, pages: list[str], limit: dict[str, int], message: str, tmp_path: Path
) -> None:
    with Emulator(token="t", credits=5) as poor:
        result = dg.materialize(
            [*dataset_of(*pages, **limit).assets],
            resources={
                "scrape_do": ScrapeDoResource(api_token="t", base_url=poor.base_url),
                "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(tmp_path)),
            },
            raise_on_error=False,
        )
        assert not result.success
        assert message in failure_of(result)
        assert poor.jobs() == []


def test_jobs_over_the_limit_wait_their_turn(
    materialize: Materialize, emulator: Emulator, site: DemoSite, data: Path
) -> None:
    def dataset(name: str) -> ScrapeDoDataset:
        @scrape_do_assets(name=name, max_open_jobs=1)
        def targets(_context: dg.AssetExecutionContext) -> list[str]:
            return [f"{site.base_url}/{DAY}/products/{number}?{name}" for number in range(1, 5)]

        return targets

    assert materialize(dataset("one").assets[0], dataset("two").assets[0]).success
    first, second = emulator.jobs()
    assert first.status == "success"
    assert second.created > first.created


def test_a_failed_collect_keeps_the_previous_results_and_continues_without_paying_again(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    assert materialize(*dataset_of(*pages[:2]).assets).success
    emulator.set_faults({"calls": [{"endpoint": "get_task", "kind": "status", "status": 401, "match": "*/products/6"}]})
    jobs, results = dataset_of(*pages).assets
    failed = materialize(jobs, results)
    assert not failed.success
    assert "401" in failure_of(failed)
    assert "SCRAPE_DO_API_KEY" in failure_of(failed)
    assert [row["url"] for row in rows(data, "tasks")] == pages[:2]
    emulator.set_faults({})
    assert materialize(results).success
    assert [row["url"] for row in rows(data, "contents")] == pages
    assert len(emulator.jobs()) == 2


@pytest.mark.parametrize("kind", ["drop", "status", "truncate"])
def test_a_job_whose_answer_was_lost_is_adopted_not_submitted_again(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path, kind: str
) -> None:
    details = {"drop": {"when": "after"}, "status": {"status": 502, "when": "after", "body": "html"}, "truncate": {}}
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": kind, "times": 1, **details[kind]}]})
    assert materialize(*dataset_of(*pages).assets).success
    assert {count.submitted for count in emulator.targets().values()} == {1}
    assert emulator.requests()["create_job"] == 1
    assert [row["url"] for row in rows(data, "contents")] == pages


def test_a_job_that_does_not_end_in_time_is_named_and_can_be_collected_later(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "status": "verifying", "match": "*/products/4", "times": 1}]})
    dataset = dataset_of(*pages, job_deadline=timedelta(seconds=1.5))
    result = materialize(*dataset.assets)
    assert not result.success
    [job] = emulator.jobs()
    assert job.job_id in failure_of(result)
    assert "shop: 1 jobs have not ended within 0:00:01.500000, and are still running" in failure_of(result)
    assert not (data / "shop" / "tasks").exists() or rows(data, "tasks") == []


def test_invalid_targets_are_named_by_position_before_anything_is_sent(
    materialize: Materialize, emulator: Emulator, pages: list[str]
) -> None:
    result = materialize(*dataset_of(pages[0], "ftp://files.example", pages[1], "/relative").assets)
    assert not result.success
    message = failure_of(result)
    assert "2 of 4 targets" in message
    assert "[1] 'ftp://files.example' is not an http or https URL" in message
    assert "[3] '/relative'" in message
    assert emulator.requests().get("create_job", 0) == 0


def test_a_single_url_instead_of_a_list_is_named(materialize: Materialize, emulator: Emulator) -> None:
    @scrape_do_assets(name="shop")
    def shop(_context: dg.AssetExecutionContext) -> str:  # type: ignore[return]
        return "https://example.com"

    result = materialize(*shop.assets)
    assert not result.success
    assert "Return ['https://example.com'] instead" in failure_of(result)
    assert emulator.requests().get("create_job", 0) == 0


@pytest.mark.parametrize(
    ("partitions_def", "key"),
    [
        (daily, DAY),
        (dg.StaticPartitionsDefinition(["a/b", "c d=e"]), "a/b"),
        (dg.MultiPartitionsDefinition({"day": daily, "shop": dg.StaticPartitionsDefinition(["x"])}), f"{DAY}|x"),
    ],
)
def test_any_partitions_definition_can_be_used(
    materialize: Materialize, pages: list[str], data: Path, partitions_def: dg.PartitionsDefinition, key: str
) -> None:
    seen = []

    @scrape_do_assets(name="shop", partitions_def=partitions_def)
    def shop(context: dg.AssetExecutionContext) -> list[str]:
        seen.append(context.partition_key)
        return pages

    assert materialize(*shop.assets, partition_key=key).success
    assert seen == [key]
    frame = ScrapeDoParquetIOManager(base_uri=str(data)).store.table(["shop", "tasks"]).dataset([key]).to_table()
    assert set(frame["partition"].to_pylist()) == {key}
    assert frame["url"].to_pylist() == pages


def test_downstream_assets_load_the_results_by_annotation(materialize: Materialize, pages: list[str]) -> None:
    dataset = dataset_of(*pages, partitions_def=daily)

    @dg.asset(ins={"contents": dg.AssetIn(["shop", "contents"])}, partitions_def=daily)
    def lengths(contents: pd.DataFrame) -> dict[str, int]:
        return dict(zip(contents["url"], contents["content"].map(len), strict=True))

    @dg.asset(ins={"tasks": dg.AssetIn(["shop", "tasks"])}, partitions_def=daily)
    def credits_used(tasks: pa.Table) -> int:
        return int(sum(tasks["credits_used"].to_pylist()))

    result = materialize(*dataset.assets, lengths, credits_used, partition_key=DAY)
    assert result.success
    assert set(result.output_for_node("lengths")) == set(pages)
    assert result.output_for_node("credits_used") == len(pages)


def test_materializations_have_counts_tables_and_addresses(
    materialize: Materialize, emulator: Emulator, pages: list[str], data: Path
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/3", "message": "no | luck"}]})
    result = materialize(*dataset_of(*pages, partitions_def=daily).assets, partition_key=DAY)
    metadata = {
        event.asset_key.path[1]: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }
    assert metadata["jobs"]["scrapedo/targets"] == 8
    [job] = metadata["jobs"]["scrapedo/job_ids"].records
    assert (job.data["job"], job.data["targets"], job.data["state"]) == (emulator.jobs()[0].job_id, 8, "submitted")
    tasks = metadata["tasks"]
    assert (tasks["scrapedo/targets"], tasks["scrapedo/succeeded"], tasks["scrapedo/failed"]) == (8, 7, 1)
    assert tasks["scrapedo/credits"] == 7
    assert tasks["dagster/partition_row_count"] == 8
    assert tasks["dagster/uri"] == str(data / "shop" / "tasks" / f"partition={DAY}")
    [failed] = tasks["scrapedo/failed_targets"].records
    assert failed.data == {"target": pages[2], "status": "error", "reason": "no | luck"}
    assert len(tasks["scrapedo/preview"].records) == 5
    assert metadata["contents"]["dagster/partition_row_count"] == 7
    assert metadata["contents"]["scrapedo/bytes"] == sum(len(row["content"]) for row in rows(data, "contents"))


def test_the_token_is_in_no_event_log_or_file(
    materialize: Materialize,
    emulator: Emulator,
    instance: dg.DagsterInstance,
    pages: list[str],
    data: Path,
    token: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    materialize(*dataset_of(*pages).assets)
    emulator.set_faults({"calls": [{"endpoint": "*", "kind": "status", "status": 401}]})
    failed = materialize(*dataset_of(*pages).assets)
    emulator.set_faults({"calls": [{"endpoint": "*", "kind": "drop"}]})
    lost = materialize(*dataset_of(*pages).assets)
    assert not failed.success
    assert not lost.success
    events = [entry for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    assert len(events) > 20
    assert token not in "".join(dg.serialize_value(entry) for entry in events)
    assert token not in "".join(dg.serialize_value(run) for run in instance.get_runs())
    assert token not in "".join(capfd.readouterr())
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) >= 4
    files += [path for path in Path(instance.root_directory).rglob("*") if path.is_file()]
    assert [path for path in files if path.name == "ledger.db"]
    assert not [path for path in files if token in str(path) or token.encode() in path.read_bytes()]


@pytest.mark.parametrize("name", ["", "my-shop", "a/b", "shop "])
def test_a_name_that_dagster_cannot_use_is_refused_at_definition(name: str) -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"name=.*: String should match pattern"):
        scrape_do_assets(name=name)


def test_defs_of_two_datasets_can_be_merged_and_validated() -> None:
    def targets(_context: dg.AssetExecutionContext) -> list[str]:
        return []

    defs = dg.Definitions.merge(
        scrape_do_assets(name="one")(targets).defs,
        scrape_do_assets(name="two", partitions_def=daily)(targets).defs,
        dg.Definitions(
            resources={"scrape_do": object(), "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri="data")}
        ),
    )
    dg.Definitions.validate_loadable(defs)
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {f"{name}/{table}" for name in ("one", "two") for table in ("jobs", "tasks", "contents")}


# --- resources, inputs and accounts


class Shop(dg.ConfigurableResource[Any]):
    """A user's own resource."""

    section: str

    def urls(self, site: DemoSite) -> list[str]:
        return [f"{site.base_url}/{DAY}/{self.section}/{number}" for number in (1, 2)]


def test_the_targets_function_takes_resources_inputs_and_config_as_any_asset_does(
    site: DemoSite, resources: dict[str, Any], instance: dg.DagsterInstance, data: Path
) -> None:
    class Settings(dg.Config):
        more: int = 0

    @dg.asset(key=["raw", "numbers"], partitions_def=daily)
    def numbers() -> list[int]:
        return [3]

    @dg.asset
    def other() -> None: ...

    @scrape_do_assets(
        name="shop", partitions_def=daily, ins={"numbers": dg.AssetIn(["raw", "numbers"])}, deps=["other"]
    )
    def shop(
        context: dg.AssetExecutionContext,
        config: Settings,
        numbers: list[int],
        store: Shop,
        scrape_do: ScrapeDoResource,
    ) -> list[str]:
        assert scrape_do.base_url == resources["scrape_do"].base_url
        page = f"{site.base_url}/{context.partition_key}/products"
        return [*store.urls(site), *(f"{page}/{number}" for number in [*numbers, config.more])]

    jobs = shop.assets[0]
    assert isinstance(jobs, dg.AssetsDefinition)
    assert jobs.op.required_resource_keys == {"scrape_do", "scrape_do_parquet", "store"}
    [spec] = jobs.specs
    assert {each.asset_key.to_user_string() for each in spec.deps} == {"raw/numbers", "other"}
    result = dg.materialize(
        [numbers, other, *shop.assets],
        resources={**resources, "store": Shop(section="products")},
        run_config={"ops": {"shop__jobs": {"config": {"more": 4}}}},
        instance=instance,
        partition_key=DAY,
    )
    assert result.success
    pages = [f"{site.base_url}/{DAY}/products/{number}" for number in (1, 2, 3, 4)]
    assert [row["url"] for row in rows(data, "tasks")] == pages


def test_a_context_of_any_name_is_known_by_its_annotation() -> None:
    @scrape_do_assets(name="shop")
    def shop(run: dg.AssetExecutionContext) -> list[str]:
        return [f"https://example.com/?run={run.run_id}"]

    [jobs, _] = shop.assets
    assert isinstance(jobs, dg.AssetsDefinition)
    assert list(jobs.keys_by_input_name) == []


def test_a_function_without_the_context_lists_the_same_targets_for_each_partition(
    materialize: Materialize, pages: list[str], data: Path
) -> None:
    dataset = build_scrape_do_assets(name="shop", targets=lambda: pages[:2], partitions_def=daily)
    assert materialize(*dataset.assets, partition_key=DAY).success
    assert [row["url"] for row in rows(data, "tasks")] == pages[:2]


def test_a_targets_function_with_an_annotation_that_cannot_be_read_is_refused() -> None:
    def targets(store: "NoSuchType") -> list[str]:  # type: ignore[name-defined]  # noqa: F821
        return []

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="'NoSuchType' is not defined"):
        build_scrape_do_assets(name="shop", targets=targets)


def test_two_accounts_and_two_storages_live_in_one_code_location(
    emulator: Emulator, instance: dg.DagsterInstance, pages: list[str], token: str, tmp_path: Path
) -> None:
    with Emulator(token="second", speed=50) as other:
        second = build_scrape_do_assets(
            name="second", targets=pages[1:2], resource_key="other_account", io_manager_key="other_storage"
        )
        lists = build_ad_hoc_dataset(resource_key="other_account", io_manager_key="other_storage")
        resources = {
            "scrape_do": ScrapeDoResource(api_token=token, base_url=emulator.base_url),
            "other_account": ScrapeDoResource(api_token="second", base_url=other.base_url),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(tmp_path / "first")),
            "other_storage": ScrapeDoParquetIOManager(base_uri=str(tmp_path / "second")),
        }
        defs = dg.Definitions.merge(
            dataset_of(pages[0]).defs, second.defs, lists.defs, dg.Definitions(resources=resources)
        )
        dg.Definitions.validate_loadable(defs)
        assert (
            defs.resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[
                    dg.AssetKey([name, table]) for name in ("shop", "second") for table in ("jobs", "tasks", "contents")
                ],
            )
            .success
        )
        config = {"ops": {"submit_targets": {"config": {"targets": pages[2:3]}}}}
        assert defs.resolve_job_def("scrape_targets").execute_in_process(instance=instance, run_config=config).success
        assert [job.targets for job in emulator.jobs()] == [(pages[0],)]
        assert [job.targets for job in other.jobs()] == [(pages[1],), (pages[2],)]
        assert {path.parts[-3] for path in (tmp_path / "second").rglob("tasks/*.parquet")} >= {"second"}
        for dataset, key in ((dataset_of(pages[0]), "scrape_do"), (second, "other_account")):
            [sensor] = dataset.sensors
            assert sensor.required_resource_keys == {key}
            with dg.build_sensor_context(instance=instance, resources=resources) as context:
                assert sensor.evaluate_tick(context).run_requests == []


def test_one_sensor_cannot_poll_two_accounts() -> None:
    datasets = [dataset_of(), build_scrape_do_assets(name="second", targets=[], resource_key="other_account")]
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"'scrape_do' \(shop\), 'other_account' \(second\)"):
        build_scrape_do_sensor(*datasets)
