"""Dagster integration for the Scrape.do Async API: scraping datasets as assets."""

from typing import TYPE_CHECKING

from dagster_shared.libraries import DagsterLibraryRegistry

from scrapedo_dagster._lazy import lazy_names
from scrapedo_dagster._version import __version__

if TYPE_CHECKING:
    from scrapedo_dagster.api.requests import ScrapeOptions
    from scrapedo_dagster.assets import ScrapeDoDataset, scrape_do_assets
    from scrapedo_dagster.engine.targets import Target
    from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
    from scrapedo_dagster.resource import ScrapeDoResource

DagsterLibraryRegistry.register("scrapedo-dagster", __version__, is_dagster_package=False)

__all__ = [
    "ScrapeDoDataset",
    "ScrapeDoParquetIOManager",
    "ScrapeDoResource",
    "ScrapeOptions",
    "Target",
    "__version__",
    "scrape_do_assets",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ScrapeDoDataset": "assets",
        "ScrapeDoParquetIOManager": "io_manager",
        "ScrapeDoResource": "resource",
        "ScrapeOptions": "api.requests",
        "Target": "engine.targets",
        "scrape_do_assets": "assets",
    },
)
