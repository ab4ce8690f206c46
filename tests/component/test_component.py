"""ScrapeDoComponent: the definitions of a `defs.yaml`, and the errors of its mistakes."""

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pandas as pd
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing import create_defs_folder_sandbox
from dagster.components.testing.test_cases import TestTranslation as TranslationCases

from scrapedo_dagster import ScrapeDoComponent, ScrapeDoParquetIOManager, ScrapeDoResource, ScrapeOptions
from scrapedo_dagster.component.datasets import AdHocAttributes, DatasetAttributes
from scrapedo_dagster.component.partitions import Partitions
from scrapedo_dagster.component.resources import Resources
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite

DOCS = Path(__file__).parents[2] / "docs" / "component.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
TYPE = "scrapedo_dagster.ScrapeDoComponent"
RESOURCES = {
    "scrape_do": {"api_token": {"env": "SCRAPE_DO_API_KEY"}},
    "scrape_do_parquet": {"base_uri": "scraped"},
}
TABLES = ("jobs", "tasks", "contents")
PARTS = (Resources, DatasetAttributes, AdHocAttributes)


@contextmanager
def project(*documents: str | dict[str, Any], **modules: str) -> Iterator[dg.Definitions]:
    """The definitions of a project with these `defs.yaml`, and these modules beside them."""
    with create_defs_folder_sandbox() as sandbox:
        for number, document in enumerate(documents):
            directory = sandbox.defs_folder_path / f"component_{number}"
            directory.mkdir()
            text = document if isinstance(document, str) else yaml.safe_dump({"type": TYPE, "attributes": document})
            (directory / "defs.yaml").write_text(text)
        for name, code in modules.items():
            (sandbox.defs_folder_path / f"{name}.py").write_text(code)
        with sandbox.build_all_defs() as defs:
            yield defs


def dataset(**attributes: Any) -> dict[str, Any]:
    """The attributes of a component with one dataset."""
    return {"resources": RESOURCES, "datasets": [{"name": "shop", "targets": ["https://a.example"], **attributes}]}


def built(**attributes: Any) -> dg.Definitions:
    with project(dataset(**attributes)) as defs:
        return defs


def spec_of(defs: dg.Definitions, table: str) -> dg.AssetSpec:
    return defs.resolve_assets_def(dg.AssetKey(["shop", table])).get_asset_spec(dg.AssetKey(["shop", table]))


UPSTREAM = """
import dagster as dg


@dg.asset(key=["shop", "new_products"])
def new_products(): ...
"""


class TestDocs:
    @pytest.mark.parametrize("block", BLOCKS)
    def test_every_block_loads_and_passes_dg_check_yaml(self, block: str) -> None:
        assert complaints_of_check_yaml(yaml.safe_load(block)["attributes"]) == []
        documents = [block] if "resources:" in block else [block, BLOCKS[0].replace("name: products", "name: other")]
        with project(*documents, new_products=UPSTREAM) as defs:
            dg.Definitions.validate_loadable(defs)

    def test_the_first_block_is_what_the_page_says(self) -> None:
        with project(BLOCKS[0]) as defs:
            keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
            assert keys == {
                f"{name}/{table}" for name in ("products", "shops") for table in ("jobs", "tasks", "contents")
            }
            schedules = {each.name: each.cron_schedule for each in defs.get_repository_def().schedule_defs}
            assert schedules == {"products_submit_schedule": "0 0 * * *", "shops_submit_schedule": "0 6 * * *"}
            assert [each.name for each in defs.sensors] == ["products_completion"]
            assert {each.name for each in defs.jobs} == {
                f"{name}_{what}" for name in ("products", "shops") for what in ("submit", "collect")
            }
            assert defs.asset_checks

    def test_every_attribute_is_documented(self) -> None:
        page = DOCS.read_text(encoding="utf-8")
        names = {name for each in PARTS for name in each.model_fields}
        names |= ScrapeDoResource.model_fields.keys() | ScrapeDoParquetIOManager.model_fields.keys()
        assert [name for name in sorted(names) if name not in page] == []


class TestDatasets:
    def test_resources_know_the_names_of_variables_and_no_value(self, monkeypatch, canary: str) -> None:
        monkeypatch.setenv("SHOP_TOKEN", canary)
        resources = {
            "scrape_do": {
                "api_token": {"env": "SHOP_TOKEN"},
                "base_url": "http://127.0.0.1:1",
                "ledger_url": {"env": "SHOP_LEDGER"},
                "webhook_url": {"env": "SHOP_HOOKS"},
                "webhook_secret": {"env": "SHOP_SECRET"},
                "request_timeout": 12,
                "max_attempts": 2,
                "max_concurrency": {"env": "SHOP_CONCURRENCY"},
            },
            "scrape_do_parquet": {"base_uri": {"env": "SHOP_STORAGE"}},
        }
        assert complaints_of_check_yaml(dataset() | {"resources": resources}) == []
        with project(dataset() | {"resources": resources}) as defs:
            account, storage = defs.resources["scrape_do"], defs.resources["scrape_do_parquet"]
        assert account._convert_to_config_dictionary() == resources["scrape_do"]
        assert canary not in repr(account)
        monkeypatch.setenv("SHOP_LEDGER", "sqlite://")
        monkeypatch.setenv("SHOP_HOOKS", "https://hooks.example")
        monkeypatch.setenv("SHOP_SECRET", "s" * 24)
        monkeypatch.setenv("SHOP_CONCURRENCY", "8")
        monkeypatch.setenv("SHOP_STORAGE", "s3://bucket/x")
        with account.process_config_and_initialize_cm() as initialized:
            assert (initialized.api_token, initialized.max_concurrency) == (canary, 8)
        assert storage.process_config_and_initialize().base_uri == "s3://bucket/x"

    def test_attributes_of_the_assets(self) -> None:
        defs = built(
            deps=["up/stream"],
            metadata={"team": "pricing"},
            code_version="3",
            description="Shops.",
            group_name="scraping",
            owners=["team:data"],
            tags={"tier": "gold"},
            kinds=["html"],
            automation_condition="{{ dg.AutomationCondition.eager() }}",
            freshness_policy="{{ dg.FreshnessPolicy.time_window(fail_window=datetime.timedelta(hours=36)) }}",
        )
        for table in TABLES:
            spec = spec_of(defs, table)
            assert str(spec.description).startswith("Shops.")
            assert (spec.group_name, list(spec.owners), spec.tags["tier"]) == ("scraping", ["team:data"], "gold")
            assert {"html", "scrapedo"} <= spec.kinds
            assert (spec.metadata["team"], spec.code_version) == ("pricing", "3")
        assert [dep.asset_key for dep in spec_of(defs, "jobs").deps] == [dg.AssetKey(["up", "stream"])]
        assert spec_of(defs, "jobs").automation_condition == dg.AutomationCondition.eager()
        assert spec_of(defs, "tasks").freshness_policy == dg.FreshnessPolicy.time_window(timedelta(hours=36))

    def test_settings_of_the_steps(self) -> None:
        defs = built(
            partitions_def={"type": "static", "partition_keys": ["a"]},
            pool="scraping",
            backfill_policy={"type": "multi_run", "max_partitions_per_run": 7},
            retry_policy={"max_retries": 3, "delay": 30, "backoff": "exponential", "jitter": "plus_minus"},
        )
        assets = [defs.resolve_assets_def(dg.AssetKey(["shop", table])) for table in ("jobs", "tasks")]
        for asset in assets:
            assert asset.op.pools == {"scraping"}
            assert asset.op.retry_policy == dg.RetryPolicy(3, 30, dg.Backoff.EXPONENTIAL, dg.Jitter.PLUS_MINUS)
            assert asset.backfill_policy == dg.BackfillPolicy.multi_run(7)

    def test_settings_of_the_dataset(self) -> None:
        component = ScrapeDoComponent.from_attributes_dict(
            attributes=dataset(
                options={"super": True, "geo_code": "US", "render": {"wait_until": "load"}},
                job_deadline=5400,
                on_invalid_target="skip",
                max_credits=5,
                max_open_jobs=2,
                reuse_open_jobs=False,
                retry_failed_targets=3,
            )
        )
        [each] = component.datasets
        options = ScrapeOptions(super=True, geo_code="us", render={"wait_until": "load"})
        assert each.dataset.dataset.options == options
        configured = each.dataset.dataset
        assert configured.job_timeout.total_seconds() == 5400
        assert (configured.on_invalid_target, configured.max_credits, configured.max_open_jobs) == ("skip", 5, 2)
        assert (configured.reuse_open_jobs, configured.retry_failed_targets) == (False, 3)

    def test_the_sensor_is_one_for_all_and_can_be_set(self) -> None:
        sensor = {"name": "collecting", "default_status": "stopped", "minimum_interval_seconds": 60}
        with project(dataset() | {"sensor": sensor}) as defs:
            [made] = defs.sensors
        assert (made.name, made.minimum_interval_seconds) == ("collecting", 60)
        assert made.default_status == dg.DefaultSensorStatus.STOPPED
        [default] = built().sensors
        assert default.default_status == dg.DefaultSensorStatus.RUNNING

    def test_templates_are_rendered_and_other_texts_are_left_as_they_are(self, monkeypatch) -> None:
        monkeypatch.setenv("COUNTRY", "de")
        attributes = dataset(
            options={
                "geo_code": "{{ env.COUNTRY }}",
                "timeout": "{{ 5 * 2000 }}",
                "headers": {"translation": "{{ 'x' }}"},
            },
            partitions_def={"type": "static", "partition_keys": ["7", "007", "{a}"]},
            tags={"number": "1"},
        )
        assert complaints_of_check_yaml(attributes) == []
        component = ScrapeDoComponent.from_attributes_dict(attributes=attributes)
        configured = component.datasets[0].dataset.dataset
        assert (configured.options.geo_code, configured.options.timeout) == ("de", 10_000)
        assert configured.options.headers == {"translation": "x"}
        assert configured.partitions_def == dg.StaticPartitionsDefinition(["7", "007", "{a}"])

    def test_a_subclass_may_have_fields_of_its_own(self) -> None:
        class Ours(ScrapeDoComponent):
            team: str

        attributes = {"team": "{{ 'da' + 'ta' }}", **dataset()}
        assert Ours.from_attributes_dict(attributes=attributes).team == "data"
        assert "team" in Ours.model().model_json_schema()["required"]


class TestAdHoc:
    def test_lists_from_the_launchpad_beside_datasets(self) -> None:
        with project({**dataset(), "ad_hoc": {}}) as defs:
            dg.Definitions.validate_loadable(defs)
            keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
            assert keys == {f"{name}/{table}" for name in ("shop", "ad_hoc") for table in TABLES}
            assert defs.resolve_job_def("scrape_targets")
            assert [each.name for each in defs.sensors] == ["shop_completion"]

    def test_its_settings_are_those_of_build_ad_hoc_dataset(self) -> None:
        attributes = {
            "resources": RESOURCES,
            "ad_hoc": {
                "name": "requests",
                "job_name": "scrape_requests",
                "owners": ["team:data"],
                "job_deadline": 1800,
            },
        }
        assert complaints_of_check_yaml(attributes) == []
        with project(attributes) as defs:
            assert defs.resolve_job_def("scrape_requests")
            key = dg.AssetKey(["requests", "tasks"])
            assert list(defs.resolve_assets_def(key).get_asset_spec(key).owners) == ["team:data"]
            assert [each.name for each in defs.sensors] == ["requests_completion"]
        component = ScrapeDoComponent.from_attributes_dict(attributes=attributes)
        assert component.ad_hoc.dataset.dataset.job_timeout == timedelta(minutes=30)

    @pytest.mark.parametrize(
        ("written", "line", "reason"),
        [
            ("    owners: [me]", 16, "attributes.ad_hoc.owners: Invalid owner 'me'"),
            ("    job_name: a b", 16, 'attributes.ad_hoc.job_name: "a b" is not a valid name in Dagster'),
            ("    name: products", 16, "attributes.ad_hoc.name: another dataset is called 'products'"),
        ],
    )
    def test_a_mistake_has_its_line(self, written: str, line: int, reason: str) -> None:
        assert f"defs.yaml:{line} - {reason}" in complaint_of_check_defs(f"{GOOD}  ad_hoc:\n{written}\n")

    def test_neither_datasets_nor_lists(self) -> None:
        assert complaints_of_check_yaml({"resources": RESOURCES}) == [("", "'datasets' is a required property")]
        message = complaint_of_check_defs(GOOD.partition("  datasets:")[0])
        assert "attributes: Field required: datasets, or ad_hoc" in message


class TestPartitions:
    @pytest.mark.parametrize(
        ("attributes", "expected"),
        [
            (
                {"type": "hourly", "start_date": "2026-01-01-00:00", "minute_offset": 5},
                dg.HourlyPartitionsDefinition("2026-01-01-00:00", minute_offset=5),
            ),
            (
                {"type": "daily", "start_date": "2026-01-01", "end_date": "2026-02-01", "timezone": "Europe/Berlin"},
                dg.DailyPartitionsDefinition("2026-01-01", "2026-02-01", timezone="Europe/Berlin"),
            ),
            (
                {"type": "weekly", "start_date": "2026-01-01", "day_offset": 1, "hour_offset": 6},
                dg.WeeklyPartitionsDefinition("2026-01-01", day_offset=1, hour_offset=6),
            ),
            ({"type": "monthly", "start_date": "2026-01-01"}, dg.MonthlyPartitionsDefinition("2026-01-01")),
            (
                {"type": "time_window", "start_date": "2026", "fmt": "%Y", "cron_schedule": "0 0 1 1 *"},
                dg.TimeWindowPartitionsDefinition(start="2026", fmt="%Y", cron_schedule="0 0 1 1 *"),
            ),
            ({"type": "static", "partition_keys": ["a", "b"]}, dg.StaticPartitionsDefinition(["a", "b"])),
            ({"type": "dynamic", "name": "shops"}, dg.DynamicPartitionsDefinition(name="shops")),
            (
                {
                    "type": "multi",
                    "dimensions": {
                        "day": {"type": "daily", "start_date": "2026-01-01"},
                        "shop": {"type": "dynamic", "name": "shops"},
                    },
                },
                dg.MultiPartitionsDefinition(
                    {
                        "day": dg.DailyPartitionsDefinition("2026-01-01"),
                        "shop": dg.DynamicPartitionsDefinition(name="shops"),
                    }
                ),
            ),
        ],
        ids=lambda value: value["type"] if isinstance(value, dict) else "",
    )
    def test_every_kind(self, attributes: dict[str, Any], expected: dg.PartitionsDefinition) -> None:
        whole = dataset(partitions_def=attributes)
        assert complaints_of_check_yaml(whole) == []
        [each] = ScrapeDoComponent.from_attributes_dict(attributes=whole).datasets
        assert all(asset.partitions_def == expected for asset in each.dataset.assets)

    def test_every_kind_is_tested_and_documented(self) -> None:
        kinds = {kind.model_fields["type"].annotation.__args__[0] for kind in Partitions.__origin__.__args__}
        tested = {parameters[0]["type"] for parameters in self.test_every_kind.pytestmark[0].args[1]}
        documented = set(
            re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", DOCS.read_text(), flags=re.MULTILINE)))
        )
        assert kinds == tested
        assert kinds <= documented


def complaints_of_check_yaml(attributes: dict[str, Any]) -> list[tuple[str, str]]:
    """What `dg check yaml` says: it holds attributes against the JSON schema."""
    schema = ScrapeDoComponent.get_model_cls().model_json_schema()
    errors = jsonschema.Draft202012Validator(schema).iter_errors(attributes)
    return [(".".join(map(str, error.absolute_path)), error.message) for error in errors]


def complaint_of_check_defs(text: str) -> str:
    """The whole error that `dg check defs` prints, without the directory of the file."""
    with pytest.raises(ComponentTreeException) as caught, project(text):
        pass
    return re.sub(r"/\S*/defs.yaml", "defs.yaml", "".join(traceback.format_exception(caught.value)))


GOOD = """\
type: scrapedo_dagster.ScrapeDoComponent
attributes:
  resources:
    scrape_do: {api_token: {env: SCRAPE_DO_API_KEY}}
    scrape_do_parquet: {base_uri: scraped}
  datasets:
    - name: products
      targets: {file: "urls/{partition_key}.csv", column: url, key_column: sku}
      options:
        super: true
        geo_code: us
        render: {wait_until: load}
      partitions_def: {type: daily, start_date: "2026-01-01"}
      schedule: true
"""
ACCOUNT, STORAGE = "scrape_do: {api_token: {env: SCRAPE_DO_API_KEY}}", "scrape_do_parquet: {base_uri: scraped}"
TARGETS = 'targets: {file: "urls/{partition_key}.csv", column: url, key_column: sku}'
PARTITIONS = 'partitions_def: {type: daily, start_date: "2026-01-01"}'
DATASET = "attributes.datasets.0"


class TestMistakes:
    @pytest.mark.parametrize(
        ("right", "wrong", "of_yaml", "of_defs"),
        [
            ("super: true", "supper: true", "'supper' was unexpected", (10, ".options.supper: Extra inputs")),
            (
                "super: true",
                "super: maybe",
                "'maybe' is not of type 'boolean'",
                (10, ".options.super: Input"),
            ),
            ("geo_code: us", "geo_code: USA", None, (11, ".options.geo_code: 'USA' is not a country code")),
            ("geo_code: us", "timeout: 10", "10 is less than the minimum", (11, ".options.timeout: Input should be")),
            ("wait_until: load", "wait_until: now", "'now' is not one of", (12, ".options.render.wait_until: Input")),
            ("geo_code: us", "retry_timeout: 5000", None, (9, ".options: retry_timeout=5000 cannot be combined")),
            (
                "type: daily",
                "type: day",
                "'day' is not one of ['daily',",
                (13, ".partitions_def: Input tag 'day'"),
            ),
            (
                'daily, start_date: "2026-01-01"',
                "static, partition_keys: [a]",
                None,
                (14, ".schedule: scrape_do_assets(name='products', schedule=True): only"),
            ),
            ("start_date", "start", "'start_date' is a required", (13, ".partitions_def: Field required: start_date")),
            (
                '"2026-01-01"',
                "soon",
                None,
                (13, ".partitions_def: Dagster does not accept it: "),
            ),
            ("{file:", "{asset: urls, file:", "is valid under each of", (8, ".targets: give exactly one of file")),
            (
                TARGETS,
                "targets: {column: url}",
                "is not valid under any",
                (8, ".targets: give exactly one of file"),
            ),
            (
                TARGETS,
                "targets: https://a.example",
                "not of type 'array'",
                (8, ".targets: Input should be a"),
            ),
            (TARGETS, "tags: {}", "'targets' is a required property", (7, ": Field required: targets")),
            (
                "partition_key}",
                "regoin}",
                None,
                (8, ".targets.file: {regoin} is not a placeholder"),
            ),
            (TARGETS, "targets: [https://a.example, 'ftp://x']", None, (8, ".targets.1: 'ftp://x' is not an http or")),
            ("key}.csv", "key}.xls", None, (8, ".targets: '{partition_key}.xls' has no known suffix")),
            ("schedule: true", "shedule: true", "'shedule' was unexpected", (14, ".shedule: Extra inputs")),
            (
                "schedule: true",
                "schedule: '@daily'",
                None,
                (14, ".schedule: scrape_do_assets(name='products', schedule"),
            ),
            ("schedule: true", "owners: [me]", None, (14, ".owners: Invalid owner 'me'")),
            ("schedule: true", "tags: {a: '!'}", None, (14, ".tags: Invalid tag value: !, for key: a")),
            ("schedule: true", "group_name: a b", None, (14, '.group_name: "a b" is not a valid asset group')),
            (
                "schedule: true",
                "min_success_ratio: 95",
                "95 is greater than",
                (14, ".min_success"),
            ),
            ("name: products", "name: my-shop", "'my-shop' does not match", (7, ".name: String should match pattern")),
            ("schedule: true", "translation: {gruop: x}", "'gruop' was unexpected", (14, ".translation.gruop: Extra")),
        ],
    )
    def test_the_line_and_the_reason_are_reported(
        self, right: str, wrong: str, of_yaml: str | None, of_defs: tuple[int, str]
    ) -> None:
        assert GOOD.count(right) == 1
        text = GOOD.replace(right, wrong)
        message = complaints_of_check_yaml(yaml.safe_load(text)["attributes"])
        assert any(of_yaml in message for _, message in message) if of_yaml else message == []
        line, reason = of_defs
        assert f"ResolutionException: defs.yaml:{line} - {DATASET}{reason}" in complaint_of_check_defs(text)

    def test_check_yaml_points_at_the_innermost_field(self) -> None:
        """Not at the list of all datasets, as it would be if any of them could be a text."""
        text = GOOD.replace("wait_until: load", "wait_until: now").replace("type: daily", "type: weekly, day_offset: x")
        assert [path for path, _ in complaints_of_check_yaml(yaml.safe_load(text)["attributes"])] == [
            "datasets.0.options.render.wait_until",
            "datasets.0.partitions_def.day_offset",
        ]

    @pytest.mark.parametrize(
        ("given", "line", "resource", "missing"),
        [(ACCOUNT, 4, "scrape_do", "api_token"), (STORAGE, 5, "scrape_do_parquet", "base_uri")],
    )
    def test_resources_without_a_required_field(self, given: str, line: int, resource: str, missing: str) -> None:
        text = GOOD.replace(given, f"{resource}: {{}}")
        path = f"resources.{resource}"
        assert complaints_of_check_yaml(yaml.safe_load(text)["attributes"]) == [
            (path, f"'{missing}' is a required property")
        ]
        assert f"defs.yaml:{line} - attributes.{path}: Field required: {missing}" in complaint_of_check_defs(text)

    def test_an_unknown_field_of_a_resource(self) -> None:
        text = GOOD.replace(STORAGE, "scrape_do_parquet: {base_uri: x, base_url: y}")
        [(path, message)] = complaints_of_check_yaml(yaml.safe_load(text)["attributes"])
        assert path == "resources.scrape_do_parquet"
        assert "'base_url' was unexpected" in message
        reason = "attributes.resources.scrape_do_parquet.base_url: Extra inputs are not permitted"
        assert f"defs.yaml:5 - {reason}" in complaint_of_check_defs(text)

    @pytest.mark.parametrize(
        ("given", "missing"),
        [("webhook_url: https://h.example", "webhook_secret"), ("webhook_secret: {env: S}", "webhook_url")],
    )
    def test_half_a_webhook(self, given: str, missing: str) -> None:
        text = GOOD.replace("{api_token:", f"{{{given}, api_token:")
        name = given.partition(":")[0]
        [(path, message)] = complaints_of_check_yaml(yaml.safe_load(text)["attributes"])
        assert (path, message) == ("resources.scrape_do", f"'{missing}' is a dependency of '{name}'")
        reason = f"attributes.resources.scrape_do: {name} is set without {missing}. Set both, or neither."
        assert f"defs.yaml:4 - {reason}" in complaint_of_check_defs(text)

    def test_each_mistake_of_a_dataset_has_a_line(self) -> None:
        text = GOOD.replace("schedule: true", "schedule: every day\n      owners: [me]\n      tags: {a: '!'}")
        message = complaint_of_check_defs(text)
        for line, reason in ((14, "schedule: scrape_do_assets("), (15, "owners: Invalid"), (16, "tags: Invalid")):
            assert f"defs.yaml:{line} - {DATASET}.{reason}" in message

    def test_a_schedule_is_not_blamed_for_partitions_that_are_wrong(self) -> None:
        message = complaint_of_check_defs(GOOD.replace("type: daily", "type: weekly, day_offset: 8"))
        reason = "partitions_def: Dagster does not accept it: Found invalid cron schedule '0 0 * * 8'"
        assert f"ResolutionException: defs.yaml:13 - {DATASET}.{reason}" in message
        assert f"{DATASET}.schedule" not in message

    def test_two_datasets_of_one_name(self) -> None:
        text = f"{GOOD}    - key_prefix: other\n      name: products\n      targets: []\n"
        message = complaint_of_check_defs(text)
        assert "defs.yaml:16 - attributes.datasets.1.name: another dataset is called 'products'" in message

    def test_a_file_with_the_name_of_a_partition_that_there_is_not(self) -> None:
        message = complaint_of_check_defs(GOOD.partition(f"      {PARTITIONS}")[0])
        reason = "{partition_key} is not a placeholder of this file: the dataset has no partitions"
        assert f"defs.yaml:8 - {DATASET}.targets.file: {reason}" in message

    def test_targets_have_their_lines_unless_they_are_to_be_skipped(self) -> None:
        listed = "targets:\n        - https://a.example\n        - {url: nonsense, key: a}\n        - ftp://x"
        text = GOOD.replace(TARGETS, listed)
        message = complaint_of_check_defs(text)
        for line, index, url in ((10, 1, "nonsense"), (11, 2, "ftp://x")):
            assert f"defs.yaml:{line} - {DATASET}.targets.{index}: '{url}' is not an http or https URL" in message
        with project(f"{text}      on_invalid_target: skip\n") as defs:
            dg.Definitions.validate_loadable(defs)

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("base_uri", "foo://x/{canary}", "pyarrow supports no filesystem foo://"),
            ("base_url", "not a url", "'not a url' contains white space"),
            ("webhook_url", "hooks.example", "'hooks.example' is not an http or https URL"),
            ("max_concurrency", "0", "Input should be greater than or equal to 1"),
        ],
    )
    def test_resources_that_cannot_be_used(self, field: str, value: str, reason: str, canary: str) -> None:
        line = f"{field}: {value.format(canary=canary)}\n"
        if field == "base_uri":
            text, path = GOOD.replace(STORAGE, f"scrape_do_parquet:\n      {line}"), f"scrape_do_parquet.{field}"
        else:
            account = f"scrape_do:\n      {line}      api_token: {{env: T}}\n"
            if field == "webhook_url":
                account += "      webhook_secret: {env: S}\n"
            text, path = GOOD.replace(ACCOUNT, account), f"scrape_do.{field}"
        message = complaint_of_check_defs(text)
        assert f"defs.yaml:{6 if field == 'base_uri' else 5} - attributes.resources.{path}: {reason}" in message
        assert canary not in message

    def test_a_project_without_resources(self) -> None:
        with project({"datasets": dataset()["datasets"]}) as defs, pytest.raises(dg.DagsterError, match="'scrape_do'"):
            dg.Definitions.validate_loadable(defs)

    @pytest.mark.parametrize("field", ["api_token", "ledger_url", "webhook_secret"])
    @pytest.mark.parametrize(
        "given",
        [
            "{canary}",
            "{TOKEN}",
            "'{{{{ env.SHOP_TOKEN }}}}'",
            "postgresql://u:{canary}@host/db",
            "{{env: {canary}}}",
            "{{env: {TOKEN}}}",
            "{{env: '{{{{ env.SHOP_TOKEN }}}}'}}",
            "{{{canary}: SHOP_TOKEN}}",
            "[{canary}]",
        ],
    )
    def test_a_secret_in_place_of_a_name_is_refused_and_not_repeated(
        self, monkeypatch, canary: str, field: str, given: str
    ) -> None:
        monkeypatch.setenv("SHOP_TOKEN", canary)
        token = "A1B2C3D4E5F60718293A4B5C6D7E8F90"
        given = given.format(canary=canary, TOKEN=token)
        account = {"api_token": "{env: T}", field: given}
        text = GOOD.replace(
            ACCOUNT, f"scrape_do: {{{', '.join(f'{name}: {value}' for name, value in account.items())}}}"
        )
        message = complaint_of_check_defs(text)
        reason = "give {env: NAME}, with the name of an environment variable"
        assert f"defs.yaml:4 - attributes.resources.scrape_do.{field}: {reason}" in message
        if ": SHOP_TOKEN" not in given:  # the names of fields are repeated
            message += str(complaints_of_check_yaml(yaml.safe_load(text)["attributes"]))
        assert canary not in message
        assert token not in message

    def test_secret_options_are_not_repeated(self, monkeypatch, canary: str) -> None:
        monkeypatch.setenv("COOKIE", canary)
        text = GOOD.replace("geo_code: us", "headers: {Cookie: ['{{ env.COOKIE }}']}")
        message = complaint_of_check_defs(text)
        assert f"defs.yaml:11 - {DATASET}.options.headers: Input should be a valid string" in message
        assert canary not in message

    def test_an_unknown_name_in_a_template(self) -> None:
        text = GOOD.replace("geo_code: us", "geo_code: '{{ country }}'")
        message = complaint_of_check_defs(text)
        assert f"defs.yaml:11 - {DATASET}.options.geo_code" in message
        assert "'country' is undefined" in message

    def test_partitions_in_a_translation(self) -> None:
        partitions = "{partitions_def: {type: static, partition_keys: [a]}}"
        message = complaint_of_check_defs(GOOD.replace("schedule: true", f"translation: {partitions}"))
        reason = "partitions_def in translation: set `partitions_def` of the dataset"
        assert f"defs.yaml:14 - {DATASET}.translation: {reason}" in message


class TestSeveral:
    def test_components_whose_resources_agree_are_one_project(self) -> None:
        second = dataset() | {"datasets": [{"name": "other", "targets": []}]}
        with project(dataset(), second) as defs:
            dg.Definitions.validate_loadable(defs)
            assert len(defs.sensors) == 2

    def test_resources_may_be_given_by_one_of_them_or_in_python(self) -> None:
        without = {"datasets": [{"name": "other", "targets": []}]}
        with project(dataset(), without) as defs:
            dg.Definitions.validate_loadable(defs)
        code = (
            "import dagster as dg\nfrom scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource\n"
            "@dg.definitions\ndef resources():\n    return dg.Definitions(resources={\n"
            "        'scrape_do': ScrapeDoResource(api_token=dg.EnvVar('T')),\n"
            "        'scrape_do_parquet': ScrapeDoParquetIOManager(base_uri='x')})\n"
        )
        with project(without, resources=code) as defs:
            dg.Definitions.validate_loadable(defs)

    def test_resources_that_disagree_are_refused(self) -> None:
        second = {
            "resources": {"scrape_do_parquet": {"base_uri": "elsewhere"}},
            "datasets": [{"name": "other", "targets": []}],
        }
        with pytest.raises(ComponentTreeException) as caught, project(dataset(), second):
            pass
        assert "different resources with same key 'scrape_do_parquet'" in str(caught.value.__cause__)


class TestTranslation(TranslationCases):
    """Dagster's own cases of what a `translation` may change."""

    def test_translation(self, attributes, assertion, key_modifier, translation_test_case) -> None:
        if translation_test_case.name == "partitions_defs":
            pytest.skip("given for the whole dataset; see test_partitions_in_a_translation")
        defs = built(translation=attributes)
        for table in TABLES:
            key = dg.AssetKey(["shop", table])
            key = key_modifier(key) if key_modifier else key
            assert assertion(defs.resolve_assets_def(key).get_asset_spec(key))

    def test_templates_know_the_table(self) -> None:
        defs = built(translation={"tags": {"is": "{{ data.dataset }}-{{ data.table }}"}, "key": "{{ data.table }}"})
        key = dg.AssetKey("tasks")
        assert defs.resolve_assets_def(key).get_asset_spec(key).tags["is"] == "shop-tasks"


URLS_ASSET = """
import dagster as dg
import pandas as pd


@dg.asset
def new_pages() -> pd.DataFrame:
    return pd.DataFrame({{"link": ["{site}/2026-01-02/products/3"], "sku": ["s3"]}})
"""


def test_yaml_becomes_rows_in_parquet(tmp_path: Path, monkeypatch, canary: str) -> None:
    monkeypatch.setenv("SCRAPE_DO_API_KEY", canary)
    with DemoSite() as site, Emulator(token=canary, speed=50) as emulator, dg.DagsterInstance.ephemeral() as instance:
        for day in (1, 2):
            url = f"{site.base_url}/2026-01-0{day}/products"
            (tmp_path / f"2026-01-0{day}.csv").write_text(f"sku,url\n007,{url}/1\n008,{url}/2\n")
        attributes = {
            "resources": {
                "scrape_do": {"api_token": {"env": "SCRAPE_DO_API_KEY"}, "base_url": emulator.base_url},
                "scrape_do_parquet": {"base_uri": str(tmp_path / "data")},
            },
            "datasets": [
                {
                    "name": "products",
                    "targets": {"file": f"{tmp_path}/{{partition_key}}.csv", "key_column": "sku"},
                    "partitions_def": {"type": "daily", "start_date": "2026-01-01"},
                    "options": {"geo_code": "US"},
                },
                {"name": "news", "targets": {"asset": "new_pages", "column": "link", "key_column": "sku"}},
            ],
        }
        with project(attributes, urls=URLS_ASSET.format(site=site.base_url)) as defs:

            def materialize(selection: str, **run: Any) -> None:
                keys = dg.AssetSelection.from_string(selection).resolve(defs.resolve_asset_graph())
                job = defs.resolve_implicit_global_asset_job_def()
                assert job.execute_in_process(asset_selection=list(keys), instance=instance, **run).success

            days = {
                f"dagster/asset_partition_range_{end}": f"2026-01-0{day}" for end, day in (("start", 1), ("end", 2))
            }
            materialize("group:products", tags=days)
            materialize("key:new_pages or group:news")
        products = pd.read_parquet(tmp_path / "data" / "products" / "tasks")
        assert products.groupby("partition", observed=True)["target_key"].apply(list).to_dict() == {
            "2026-01-01": ["007", "008"],
            "2026-01-02": ["007", "008"],
        }
        news = pd.read_parquet(tmp_path / "data" / "news" / "tasks")
        assert (set(products["status"]), news["target_key"].to_list()) == ({"success"}, ["s3"])
        assert {job.request.get("GeoCode") for job in emulator.jobs()} == {"us", None}


def test_scaffolding_gives_a_component_that_loads() -> None:
    with create_defs_folder_sandbox() as sandbox:
        for parameters in (None, {"name": "shop", "base_uri": "s3://b/x", "file": "urls.csv"}):
            path = sandbox.scaffold_component(component_cls=ScrapeDoComponent, scaffold_params=parameters)
            with sandbox.load_component_and_build_defs(path) as (component, defs):
                assert isinstance(component, ScrapeDoComponent)
                dg.Definitions.validate_loadable(defs)
        assert component.datasets[0].name == "shop"


def test_the_schema_is_derived_from_the_options() -> None:
    schema = ScrapeDoComponent.get_model_cls().model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    options = schema["properties"]["datasets"]["else"]["items"]["else"]["properties"]["options"]["else"]
    assert options["properties"].keys() == ScrapeOptions.model_fields.keys()
    for model in (ScrapeDoComponent, *PARTS):
        assert [name for name, field in model.model_fields.items() if not field.description] == []
    assert "$ref" not in json.dumps(schema)  # Dagster puts it inside other schemas


@pytest.mark.slow
def test_dg_lists_scaffolds_and_checks_the_component(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
        '[tool.dg.project]\nroot_module = "shop"\n'
    )
    source = tmp_path / "src" / "shop"
    (source / "defs").mkdir(parents=True)
    (source / "__init__.py").touch()
    (source / "definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n\n@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "src")}

    def run_dg(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "dagster_dg_cli.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, re.sub(r"\x1b\[\d*m", "", done.stdout + done.stderr)

    assert TYPE in run_dg("list", "components", "--json")[1]
    assert run_dg("scaffold", "defs", TYPE, "products", "--name", "products")[0] == 0
    status, said = run_dg("check", "defs")
    assert status == 0, said
    (source / "defs" / "products" / "defs.yaml").write_text(GOOD.replace("super: true", "supper: true"))
    status, said = run_dg("check", "yaml")
    assert status == 1
    assert f"defs.yaml:10 - {TYPE} {DATASET}.options.supper" in said
    assert "10 |         supper: true" in said
    (source / "defs" / "products" / "defs.yaml").write_text(GOOD.replace("geo_code: us", "geo_code: USA"))
    status, said = run_dg("check", "defs")
    assert status == 1
    assert f"defs.yaml:11 - {DATASET}.options.geo_code: 'USA' is not a country code" in said
