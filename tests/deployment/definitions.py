"""A code location of datasets with partitions of every kind, whose completion sensor looks twice a second."""

import os
from datetime import timedelta

import dagster as dg

from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, build_scrape_do_sensor, scrape_do_assets
from scrapedo_dagster.engine.collection import run_retry_schedule

run_retry_schedule.FIRST_DELAY = timedelta(seconds=4)  # between two collecting runs

days = dg.DailyPartitionsDefinition(start_date="2026-01-01")
regions = dg.MultiPartitionsDefinition({"day": days, "region": dg.StaticPartitionsDefinition(["eu", "us"])})
hundred = dg.StaticPartitionsDefinition([f"p{number:02}" for number in range(100)])


def pages_of(gate: str, name: str) -> list[str]:
    return [f"{os.environ['SITE']}/{gate}/{name}/{number}" for number in range(3)]


@scrape_do_assets(name="shop", partitions_def=days)
def shop(context: dg.AssetExecutionContext) -> list[str]:
    return pages_of(context.partition_key, "shop")


@scrape_do_assets(name="cities", partitions_def=dg.DynamicPartitionsDefinition(name="cities"))
def cities(context: dg.AssetExecutionContext) -> list[str]:
    return pages_of(context.partition_key, "cities")


@scrape_do_assets(name="markets", partitions_def=regions)
def markets(context: dg.AssetExecutionContext) -> list[str]:
    key = context.multi_partition_key.keys_by_dimension
    return pages_of("open", f"{key['day']}/{key['region']}")


def pages_that_fail(context: dg.AssetExecutionContext) -> list[str]:
    if context.partition_key == "p13":
        raise ValueError("the list of p13 is broken")
    if context.partition_key == "p57":
        return ["ftp://p57.example"]
    return pages_of("open", f"hundred/{context.partition_key}")


submitted, waited_for = (
    scrape_do_assets(name=name, partitions_def=hundred)(pages_that_fail) for name in ("submitted", "waited_for")
)

datasets = (shop, cities, markets, submitted, waited_for)
defs = dg.Definitions(
    assets=[asset for dataset in datasets for asset in dataset.assets],
    asset_checks=[check for dataset in datasets for check in dataset.asset_checks],
    jobs=[
        *(job for dataset in datasets for job in dataset.jobs),
        dg.define_asset_job("shop_at_once", dg.AssetSelection.groups("shop")),
    ],
    sensors=[build_scrape_do_sensor(*datasets, minimum_interval_seconds=1)],
    executor=dg.in_process_executor,
    resources={
        "scrape_do": ScrapeDoResource(
            api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url=dg.EnvVar("SCRAPE_DO_BASE_URL"), max_attempts=1
        ),
        "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=dg.EnvVar("DATA")),
    },
)
