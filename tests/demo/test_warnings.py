"""Definitions use nothing that Dagster warns about: deprecated, superseded, beta or preview."""

import os
import subprocess
import sys

import pytest

STRICT = """
import warnings
from dagster_shared.utils.warnings import BetaWarning, PreviewWarning, SupersessionWarning
import dagster as dg
for category in (BetaWarning, PreviewWarning, SupersessionWarning, DeprecationWarning, FutureWarning):
    warnings.simplefilter("error", category)
"""
DEMO = """
from scrapedo_dagster.demo.definitions import defs
"""
EVERYTHING = """
from datetime import timedelta
from scrapedo_dagster import *

daily = dg.DailyPartitionsDefinition("2026-01-01")

@scrape_do_assets(
    name="shop", partitions_def=daily, options=ScrapeOptions(super=True), key_prefix="web", group_name="web",
    owners=["team:data"], tags={"tier": "1"}, kinds={"html"}, pool="scraping", schedule=True,
    backfill_policy=dg.BackfillPolicy.multi_run(10), retry_policy=dg.RetryPolicy(max_retries=1),
    automation_condition=dg.AutomationCondition.on_cron("@daily"), translator=ScrapeDoTranslator(),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=2)),
    max_credits=100, max_open_jobs=2, retry_failed_targets=1,
)
def shop(context):
    return []

files = build_scrape_do_assets(name="files", targets=TargetsFile("urls.csv"))
urls = dg.AssetSpec("urls", partitions_def=daily)
upstream = build_scrape_do_assets(name="upstream", targets=TargetsAsset("urls"), partitions_def=daily)
datasets = [shop, files, upstream, build_ad_hoc_dataset()]
defs = dg.Definitions.merge(
    *(each.defs for each in datasets),
    dg.Definitions(
        assets=[urls],
        sensors=[build_scrape_do_sensor(*datasets)],
        resources={
            "scrape_do": ScrapeDoResource(api_token=dg.EnvVar("SCRAPE_DO_API_KEY")),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri="data"),
        },
    ),
)
"""
LOAD = """
dg.Definitions.validate_loadable(defs)
print("loaded", sorted(defs.resolve_job_def(name).name for name in defs.get_repository_def().job_names))
"""


@pytest.mark.slow
@pytest.mark.parametrize("definitions", [DEMO, EVERYTHING], ids=["demo", "everything"])
def test_definitions_load_without_a_warning_of_dagster(definitions: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", STRICT + definitions + LOAD],
        env=os.environ | {"SCRAPE_DO_API_KEY": "unused"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "Warning" not in loaded.stderr
    assert "scrape_targets" in loaded.stdout
