"""A code location whose runs are terminated: one dataset, in both executors, with and without a user's retry policy."""

import os

import dagster as dg

from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, ScrapeOptions, scrape_do_assets

days = dg.DailyPartitionsDefinition(start_date="2026-01-01")


@scrape_do_assets(name="shop", partitions_def=days, options=ScrapeOptions(retry_timeout=55_000, timeout=120_000))
def shop(context: dg.AssetExecutionContext) -> list[str]:
    return [f"{os.environ['SITE']}/{context.partition_key}/{number}" for number in range(3)]


def job(name: str, executor: dg.ExecutorDefinition, retries: dg.RetryPolicy | None) -> dg.JobDefinition:
    return dg.define_asset_job(
        name, selection=dg.AssetSelection.groups("shop"), executor_def=executor, op_retry_policy=retries
    )


policy = dg.RetryPolicy(max_retries=3)
defs = dg.Definitions.merge(
    shop.defs,
    dg.Definitions(
        jobs=[
            job("in_process", dg.in_process_executor, None),
            job("in_process_with_retries", dg.in_process_executor, policy),
            job("multiprocess", dg.multiprocess_executor, None),
            job("multiprocess_with_retries", dg.multiprocess_executor, policy),
        ],
        resources={
            "scrape_do": ScrapeDoResource(
                api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url=dg.EnvVar("SCRAPE_DO_BASE_URL")
            ),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=dg.EnvVar("DATA")),
        },
    ),
)
