"""The demo code location: a shop scraped every day, the titles of its pages, and lists given in the Launchpad.

It is what `make demo` runs and `make dev` serves; both set the environment variables that it reads.
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
from scrapedo_dagster.emulator import demo_site as site

DAYS = ("2026-01-01", "2026-01-02")
"""The partitions that `make demo` scrapes."""

DATASET = "catalogue"
DATA = "demo_data/parquet"

daily = dg.DailyPartitionsDefinition(start_date=DAYS[0])


@scrape_do_assets(name=DATASET, partitions_def=daily, options=ScrapeOptions(timeout=5_000))
def catalogue(context: dg.AssetExecutionContext) -> list[str]:
    """A shop's pages as they were on one day."""
    if demo_site := os.environ.get("SCRAPEDO_DEMO_SITE"):
        return site.targets(demo_site, context.partition_key)
    if own_list := os.environ.get("TARGETS"):
        return _share_of(urls_in(Path(own_list)), context.partition_key)
    raise dg.Failure(
        "There is nothing to scrape: the demo site is not running. Start it with `make demo` or `make dev`.",
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
    """The title of every HTML page."""
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
    """The URLs of a text file, one a line, each once; empty lines and those that begin with # are left out."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _share_of(urls: list[str], day: str) -> list[str]:
    """One day's share of the user's own list: every URL belongs to one of the two days, so that it is paid once."""
    if day not in DAYS:
        raise dg.Failure(f"TARGETS is shared out between {' and '.join(DAYS)}, not {day}.", allow_retries=False)
    return urls[DAYS.index(day) :: len(DAYS)]


def _account() -> ScrapeDoResource:
    """The emulator's account where the demo runs one; otherwise the user's own."""
    if "SCRAPEDO_DEMO_SITE" in os.environ:
        return ScrapeDoResource(
            api_token=dg.EnvVar("SCRAPEDO_DEMO_TOKEN"), base_url=os.environ["SCRAPEDO_DEMO_BASE_URL"]
        )
    return ScrapeDoResource(
        api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url=os.environ.get("SCRAPE_DO_BASE_URL", DEFAULT_BASE_URL)
    )


defs = dg.Definitions.merge(
    catalogue.defs,
    build_ad_hoc_dataset().defs,  # a list of one's own, from the Launchpad
    dg.Definitions(
        assets=[page_titles],
        # Short steps: a process for each would take longer to start than to work.
        executor=dg.in_process_executor,
        resources={
            "scrape_do": _account(),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=os.environ.get("SCRAPEDO_DEMO_DATA", DATA)),
        },
    ),
)
