"""Code location of the demo: a daily scraped shop, the titles of its pages, and the job for ad-hoc lists.

`make demo` runs it and `make dev` serves it. Both set the environment variables that it reads.
"""

import os
from pathlib import Path

import dagster as dg
import pandas as pd
from bs4 import BeautifulSoup

from scrapedo_dagster import (
    ScrapeDoParquetIOManager,
    ScrapeDoResource,
    ScrapeOptions,
    build_ad_hoc_dataset,
    scrape_do_assets,
)
from scrapedo_dagster.api import DEFAULT_BASE_URL
from scrapedo_dagster.emulator import demo_site

DAYS = ("2026-01-01", "2026-01-02")
"""The partitions that `make demo` scrapes."""

DATASET = "catalogue"
DATA = "demo_data/parquet"

daily = dg.DailyPartitionsDefinition(start_date=DAYS[0])


@scrape_do_assets(name=DATASET, partitions_def=daily, options=ScrapeOptions(timeout=5_000))
def catalogue(context: dg.AssetExecutionContext) -> list[str]:
    """Pages of a shop on one day."""
    if site := os.environ.get("SCRAPEDO_DEMO_SITE"):
        return demo_site.targets(site, context.partition_key)
    if urls_file := os.environ.get("TARGETS"):
        return _urls_of_day(urls_in(Path(urls_file)), context.partition_key)
    raise dg.Failure(
        "The demo site is not running: start it with `make demo` or `make dev`.",
        allow_retries=False,
    )


@dg.asset(
    ins={
        "contents": dg.AssetIn(
            [DATASET, "contents"], metadata={"columns": ["url", "status_code", "content_type", "text"]}
        )
    },
    partitions_def=daily,
    group_name=DATASET,
)
def page_titles(context: dg.AssetExecutionContext, contents: pd.DataFrame) -> pd.DataFrame:
    """Title of each HTML page."""
    pages = contents[contents["content_type"].eq("text/html") & contents["status_code"].eq(200)]
    table = pd.DataFrame({"url": pages["url"], "title": pages["text"].fillna("").map(_title)})
    context.add_output_metadata(
        {
            "dagster/partition_row_count": len(table),
            "distinct_titles": int(table["title"].nunique()),
            "preview": dg.MetadataValue.md("\n".join(f"- {title}" for title in table["title"].head(5))),
        }
    )
    return table


def _title(html: str) -> str | None:
    title = BeautifulSoup(html, "html.parser").title
    return title.get_text(strip=True) if title else None


def urls_in(path: Path) -> list[str]:
    """Read the URLs of a text file, one per line, each once. Skips empty lines and lines that start with #."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _urls_of_day(urls: list[str], day: str) -> list[str]:
    """Return the URLs of one of the two days; each URL belongs to one day, so that it is charged once."""
    if day not in DAYS:
        raise dg.Failure(
            f"{day} has no targets: the URLs of TARGETS belong to {' and '.join(DAYS)}.", allow_retries=False
        )
    return urls[DAYS.index(day) :: len(DAYS)]


def _account() -> ScrapeDoResource:
    """Return the account of the emulator if the demo started one, otherwise that of the user."""
    if "SCRAPEDO_DEMO_SITE" in os.environ:
        return ScrapeDoResource(
            api_token=dg.EnvVar("SCRAPEDO_DEMO_TOKEN"), base_url=os.environ["SCRAPEDO_DEMO_BASE_URL"]
        )
    return ScrapeDoResource(
        api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url=os.environ.get("SCRAPE_DO_BASE_URL", DEFAULT_BASE_URL)
    )


defs = dg.Definitions.merge(
    catalogue.defs,
    build_ad_hoc_dataset().defs,  # ad-hoc lists from the Launchpad
    dg.Definitions(
        assets=[page_titles],
        # The steps are short: starting a process for each would take longer.
        executor=dg.in_process_executor,
        resources={
            "scrape_do": _account(),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=os.environ.get("SCRAPEDO_DEMO_DATA", DATA)),
        },
    ),
)
