"""The definitions of a dataset: every argument arrives, schedules fit the partitions, mistakes fail at definition."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pytest

from scrapedo_dagster import (
    ScrapeDoDataset,
    ScrapeDoParquetIOManager,
    ScrapeDoTable,
    ScrapeDoTranslator,
    TargetsFile,
    build_scrape_do_assets,
    build_scrape_do_sensor,
    scrape_do_assets,
)
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.schedules import build_schedules

days = dg.DailyPartitionsDefinition(start_date="2026-01-01")
sites = dg.StaticPartitionsDefinition(["x", "y"])
dynamic = dg.DynamicPartitionsDefinition(name="sites")
both = dg.MultiPartitionsDefinition({"day": days, "site": sites})


def shop(**settings: Any) -> ScrapeDoDataset:
    return build_scrape_do_assets(name="shop", **{"targets": ["https://shop.example/"], **settings})


def specs_of(dataset: ScrapeDoDataset) -> dict[str, dg.AssetSpec]:
    return {spec.key.path[-1]: spec for asset in dataset.assets for spec in asset.specs}


def test_attributes_of_assets_arrive_at_all_three() -> None:
    about = {
        "group_name": "scraped",
        "owners": ["team:shop", "someone@example.com"],
        "tags": {"tier": "1"},
        "description": "All that the shop sells.",
        "key_prefix": ["raw", "web"],
    }
    specs = specs_of(shop(**about))
    assert {tuple(spec.key.path) for spec in specs.values()} == {
        ("raw", "web", "shop", table) for table in ("jobs", "tasks", "contents")
    }
    for spec in specs.values():
        assert spec.group_name == "scraped"
        assert list(spec.owners) == ["team:shop", "someone@example.com"]
        assert spec.tags["tier"] == "1"
        assert spec.description is not None
        assert spec.description.startswith("All that the shop sells.\n\n")
    assert shop(key_prefix="raw").dataset.tasks_key == dg.AssetKey(["raw", "shop", "tasks"])


def test_the_ledger_knows_a_dataset_by_its_prefix_and_name() -> None:
    def renamed(*path: str) -> ScrapeDoTranslator:
        class Renaming(ScrapeDoTranslator):
            def get_asset_spec(self, table: ScrapeDoTable) -> dg.AssetSpec:
                return table.spec.replace_attributes(key=dg.AssetKey([*path, table.table]))

        return Renaming()

    assert shop().dataset.ledger_name == "shop"
    assert shop(key_prefix="us").dataset.ledger_name == "us/shop"
    assert shop(key_prefix=["raw", "shop"]).dataset.ledger_name == "raw/shop/shop"
    assert shop(translator=renamed("us", "shop")).dataset.ledger_name == "us/shop"
    assert shop(translator=renamed("us", "shop", "v2")).dataset.ledger_name == "us/shop"
    assert shop(translator=renamed("SHOP")).dataset.ledger_name == "shop"
    assert build_scrape_do_assets(name="tasks", targets=["https://x.example"]).dataset.ledger_name == "tasks"


def test_kinds_are_added_to_ours() -> None:
    specs = specs_of(shop(kinds={"web"}))
    assert specs["jobs"].kinds == {"scrapedo", "web"}
    assert specs["tasks"].kinds == specs["contents"].kinds == {"scrapedo", "parquet", "web"}


def test_the_condition_is_of_jobs_and_the_freshness_policy_of_the_results() -> None:
    condition = dg.AutomationCondition.eager()
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1))
    specs = specs_of(shop(automation_condition=condition, freshness_policy=policy))
    assert [specs[table].automation_condition for table in ("jobs", "tasks", "contents")] == [condition, None, None]
    assert [specs[table].freshness_policy for table in ("jobs", "tasks", "contents")] == [None, policy, policy]


def test_pool_retries_and_backfills_are_those_of_both_steps() -> None:
    retries = dg.RetryPolicy(max_retries=2, delay=1)
    backfills = dg.BackfillPolicy.single_run()
    for asset in shop(partitions_def=days, pool="web", retry_policy=retries, backfill_policy=backfills).assets:
        assert asset.op.pool == "web"
        assert asset.op.retry_policy == retries
        assert asset.backfill_policy == backfills
        assert asset.partitions_def == days
    by_default = [asset.backfill_policy for asset in shop(partitions_def=days).assets]
    assert by_default == [dg.BackfillPolicy.single_run()] * 2
    assert [asset.backfill_policy for asset in shop().assets] == [None, None]


def test_metadata_versions_and_op_tags_pass_through() -> None:
    dataset = shop(
        metadata={"team": "web"}, code_version="2", op_tags={"cpu": "1", "disk": "1"}, collect_op_tags={"cpu": "4"}
    )
    for spec in specs_of(dataset).values():
        assert spec.metadata["team"] == "web"
        assert spec.code_version == "2"
    steps = [asset.op for asset in (*dataset.assets, *dataset.asset_checks)]
    assert [{name: step.tags[name] for name in ("cpu", "disk")} for step in steps] == [
        {"cpu": "1", "disk": "1"},
        {"cpu": "4", "disk": "1"},
        {"cpu": "1", "disk": "1"},
    ]


def test_options_arrive_at_the_dataset() -> None:
    settings: dict[str, Any] = {
        "job_deadline": timedelta(hours=1),
        "on_invalid_target": "skip",
        "max_credits": 5,
        "max_open_jobs": 3,
        "reuse_open_jobs": False,
        "retry_failed_targets": 2,
    }
    dataset = shop(**settings).dataset
    assert {name: getattr(dataset, name) for name in settings} == settings


def test_results_have_a_column_schema_and_depend_on_jobs() -> None:
    specs = specs_of(shop())
    for table in ("tasks", "contents"):
        assert [dep.asset_key for dep in specs[table].deps] == [dg.AssetKey(["shop", "jobs"])]
        assert specs[table].metadata["dagster/column_schema"].columns[0].description


def test_the_decorator_takes_its_description_from_the_docstring_each_time() -> None:
    decorate = scrape_do_assets(name="shop")

    def first(context: dg.AssetExecutionContext) -> list[str]:
        """The first."""
        return []

    def second(context: dg.AssetExecutionContext) -> list[str]:
        """The second."""
        return []

    texts = [str(specs_of(decorate(each))["jobs"].description).splitlines()[0] for each in (first, second)]
    assert texts == ["The first.", "The second."]


# --- the translator


class InCapitals(ScrapeDoTranslator):
    def get_asset_spec(self, table: ScrapeDoTable) -> dg.AssetSpec:
        spec = super().get_asset_spec(table)
        return spec.replace_attributes(key=[table.dataset.upper(), table.table], group_name=f"{table.table}_group")


def test_a_translator_changes_keys_and_everything_follows(
    materialize: Callable[..., Any], tick: Callable[..., Any], collect: Callable[..., Any], ended: Callable[[], None],
    pages: Callable[[str], list[str]], events: Callable[[str], Any],
) -> None:  # fmt: skip
    dataset = shop(targets=pages("x"), translator=InCapitals())
    specs = specs_of(dataset)
    assert {spec.group_name for spec in specs.values()} == {"jobs_group", "tasks_group", "contents_group"}
    assert [dep.asset_key for dep in specs["tasks"].deps] == [dg.AssetKey(["SHOP", "jobs"])]
    assert materialize(dataset.assets[0]).success
    ended()
    [request] = tick(dataset).run_requests
    result = collect(request, dataset)
    assert result.success
    assert {each.asset_key for each in result.get_asset_check_evaluations()} == {dg.AssetKey(["SHOP", "tasks"])}
    assert events("SHOP/tasks") == {None: 1}


# --- schedules


def requests_of(dataset: ScrapeDoDataset, instance: dg.DagsterInstance, when: datetime) -> list[dg.RunRequest]:
    """The runs that its schedule requests at a time."""
    io_manager = ScrapeDoParquetIOManager(base_uri="data")
    resources = {"scrape_do": object(), "scrape_do_parquet": io_manager}
    defs = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources))
    schedule = defs.resolve_schedule_def("shop_submit_schedule")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=when, repository_def=defs.get_repository_def()
    ) as context:
        found = schedule.evaluate_tick(context).run_requests
    assert found is not None
    return list(found)


def test_schedules_submit_what_is_due() -> None:
    with dg.instance_for_test() as instance:  # a schedule finds no ephemeral one
        _schedules_submit_what_is_due(instance)


def _schedules_submit_what_is_due(instance: dg.DagsterInstance) -> None:
    at = datetime(2026, 1, 5, tzinfo=timezone.utc)
    [of_day] = requests_of(shop(partitions_def=days, schedule=True), instance, at)
    assert of_day.partition_key == "2026-01-04"
    [whole] = requests_of(shop(schedule="0 6 * * *"), instance, at)
    assert whole.partition_key is None
    [of_sites] = requests_of(shop(partitions_def=sites, schedule="0 6 * * *"), instance, at)
    assert of_sites.tags["dagster/asset_partition_range_start"] == "x"
    assert of_sites.tags["dagster/asset_partition_range_end"] == "y"
    of_both = requests_of(shop(partitions_def=both, schedule=True), instance, at)
    assert sorted(str(each.partition_key) for each in of_both) == ["2026-01-04|x", "2026-01-04|y"]
    mixed = dg.MultiPartitionsDefinition({"day": days, "site": dynamic})
    assert requests_of(shop(partitions_def=mixed, schedule=True), instance, at) == []
    assert requests_of(shop(partitions_def=dynamic, schedule="0 6 * * *"), instance, at) == []
    instance.add_dynamic_partitions("sites", ["only"])
    [of_dynamic] = requests_of(shop(partitions_def=dynamic, schedule="0 6 * * *"), instance, at)
    assert of_dynamic.partition_key == "only"
    [of_mixed] = requests_of(shop(partitions_def=mixed, schedule=True), instance, at)
    assert of_mixed.partition_key == "2026-01-04|only"
    assert shop().schedules == ()


@pytest.mark.parametrize(
    ("partitions_def", "schedule", "message"),
    [
        (None, True, "Give a cron expression"),
        (sites, True, "Give a cron expression"),
        (dynamic, True, "Give a cron expression"),
        (days, "0 6 * * *", "Give schedule=True"),
        (both, "0 6 * * *", "Give schedule=True"),
        (dg.MultiPartitionsDefinition({"one": days, "two": days}), True, "both dimensions"),
        (None, "every morning", "every morning"),
        (sites, "every morning", "every morning"),
        (None, "", "cron"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused_at_definition(
    partitions_def: dg.PartitionsDefinition | None, schedule: bool | str, message: str
) -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=message):
        shop(partitions_def=partitions_def, schedule=schedule)


def test_a_cron_expression_has_a_time_zone() -> None:
    for partitions_def in (None, sites, dynamic):
        dataset = shop(partitions_def=partitions_def).dataset
        job = dg.define_asset_job(dataset.submit_job_name)
        [schedule] = build_schedules(job, dataset, "0 6 * * *", timezone="Europe/Berlin")
        assert schedule.execution_timezone == "Europe/Berlin"
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Nowhere/Else"):
        build_schedules(job, dataset, "0 6 * * *", timezone="Nowhere/Else")


@pytest.mark.parametrize(("partitions_def", "schedule"), [(None, False), (days, True), (days, "0 6 * * *")])
def test_a_time_zone_without_a_cron_expression_is_refused(
    partitions_def: dg.PartitionsDefinition | None, schedule: bool | str
) -> None:
    dataset = shop(partitions_def=partitions_def).dataset
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="'Europe/Berlin' needs a cron expression"):
        build_schedules(dg.define_asset_job("submit"), dataset, schedule, timezone="Europe/Berlin")


# --- errors at definition


async def asynchronous(context: Any) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_success_ratio": 90}, "min_success_ratio=90: Input should be less than or equal to 1"),
        ({"min_success_ratio": "0.9"}, "min_success_ratio='0.9': Input should be a valid number"),
        ({"max_credits": "5"}, "max_credits='5': Input should be a valid integer"),
        ({"max_open_jobs": 2.5}, "max_open_jobs=2.5: Input should be a valid integer"),
        ({"retry_failed_targets": True}, "retry_failed_targets=True: Input should be a valid integer"),
        ({"job_deadline": "1h"}, "job_deadline='1h': must be a timedelta, or seconds, above 0"),
        ({"job_deadline": float("inf")}, "job_deadline=inf: must be"),
        ({"on_invalid_target": ["skip"]}, "on_invalid_target"),
        ({"options": True}, "options=True: Input should be a valid dictionary or instance of ScrapeOptions"),
        ({"targets": "https://shop.example/"}, "Give a list"),
        ({"targets": 5}, "targets: 5 is not a function, a list"),
        (
            {"targets": ["https://x.example", "nonsense", "ftp://x"]},
            r"\[1\] 'nonsense' is not .*; \[2\] 'ftp://x' is not",
        ),
        ({"targets": [None]}, "None is NoneType, not a string"),
        ({"targets": TargetsFile("{partition_key}.csv")}, r"{partition_key} is .* the dataset has no partitions"),
        (
            {"targets": TargetsFile("{site}.csv"), "partitions_def": days},
            r"{site} .* there may be {partition_key}",
        ),
        (
            {"targets": TargetsFile("{stie}.csv"), "partitions_def": both},
            r"{stie} .*: there may be .*, {day}, {site}",
        ),
        ({"targets": asynchronous}, "async def"),
        ({"max_open_jobs": 0}, "max_open_jobs"),
        ({"max_credits": -1}, "max_credits"),
        ({"retry_failed_targets": -1}, "retry_failed_targets"),
        ({"job_deadline": timedelta(0)}, "job_deadline"),
        ({"on_invalid_target": "ignore"}, "on_invalid_target"),
    ],
)
def test_a_wrong_argument_is_named_at_definition(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=rf"name='shop'.*{message}"):
        shop(**wrong)


@pytest.mark.parametrize(("argument", "hint"), [("max_credit", "; did you mean 'max_credits'"), ("unknown", "$")])
def test_an_unknown_argument_is_named_with_the_nearest_known_one(argument: str, hint: str) -> None:
    for build in (build_scrape_do_assets, scrape_do_assets):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{argument}'{hint}"):
            build(
                **{"name": "shop", "targets": [], argument: 1}
                if build is build_scrape_do_assets
                else {"name": "shop", argument: 1}
            )


def test_placeholders_of_a_targets_file_and_skipped_targets_are_accepted() -> None:
    for name in ("{partition_key}", "{day}/{site}", "{0}{}{{}}"):
        shop(targets=TargetsFile(f"{name}.csv"), partitions_def=both)
    shop(targets=["nonsense"], on_invalid_target="skip")


def test_a_deadline_may_be_given_in_seconds() -> None:
    assert shop(job_deadline=90).dataset.job_deadline == timedelta(seconds=90)
    assert shop(job_deadline=0.5).dataset.job_deadline == timedelta(seconds=0.5)


@pytest.mark.parametrize("lazily", [iter, lambda urls: (url for url in urls), lambda urls: dict.fromkeys(urls).keys()])
def test_an_iterator_of_targets_is_used_by_every_run(
    lazily: Callable[[list[str]], Any], materialize: Callable[..., Any], pages: Callable[[str], list[str]],
    emulator: Emulator,
) -> None:  # fmt: skip
    dataset = shop(targets=lazily([*pages("x")]))
    for _ in range(2):
        assert materialize(*dataset.assets).success
    assert sorted(count.submitted for count in emulator.targets().values()) == [2, 2, 2]


def test_a_sensor_needs_a_dataset_and_takes_settings() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="at least one dataset"):
        build_scrape_do_sensor()
    sensor = build_scrape_do_sensor(
        shop(), name="mine", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED
    )
    assert (sensor.name, sensor.minimum_interval_seconds) == ("mine", 30)
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    [own] = shop().sensors
    assert (own.name, own.default_status) == ("shop_completion", dg.DefaultSensorStatus.RUNNING)
