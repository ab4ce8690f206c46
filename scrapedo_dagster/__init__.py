"""Dagster integration for the Scrape.do Async API: scraping datasets as assets."""

from typing import TYPE_CHECKING

from dagster_shared.libraries import DagsterLibraryRegistry

from scrapedo_dagster._lazy import lazy_names
from scrapedo_dagster._version import __version__

if TYPE_CHECKING:
    from scrapedo_dagster.ad_hoc import build_ad_hoc_dataset
    from scrapedo_dagster.api.requests import ScrapeOptions
    from scrapedo_dagster.assets import build_scrape_do_assets, scrape_do_assets
    from scrapedo_dagster.component.component import ScrapeDoComponent
    from scrapedo_dagster.dataset import ScrapeDoDataset
    from scrapedo_dagster.engine.targets.target import Target
    from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
    from scrapedo_dagster.ops import collect_targets, submit_targets
    from scrapedo_dagster.ops_config import ScrapeDoCollected, ScrapeDoHandle, SubmitTargetsConfig
    from scrapedo_dagster.resource import ScrapeDoResource
    from scrapedo_dagster.sensors import build_scrape_do_sensor
    from scrapedo_dagster.targets import TargetsAsset, TargetsFile
    from scrapedo_dagster.translator import ScrapeDoTable, ScrapeDoTranslator

DagsterLibraryRegistry.register("scrapedo-dagster", __version__, is_dagster_package=False)

__all__ = [
    "ScrapeDoCollected",
    "ScrapeDoComponent",
    "ScrapeDoDataset",
    "ScrapeDoHandle",
    "ScrapeDoParquetIOManager",
    "ScrapeDoResource",
    "ScrapeDoTable",
    "ScrapeDoTranslator",
    "ScrapeOptions",
    "SubmitTargetsConfig",
    "Target",
    "TargetsAsset",
    "TargetsFile",
    "__version__",
    "build_ad_hoc_dataset",
    "build_scrape_do_assets",
    "build_scrape_do_sensor",
    "collect_targets",
    "scrape_do_assets",
    "submit_targets",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ScrapeDoCollected": "ops_config",
        "ScrapeDoComponent": "component.component",
        "ScrapeDoDataset": "dataset",
        "ScrapeDoHandle": "ops_config",
        "ScrapeDoParquetIOManager": "io_manager",
        "ScrapeDoResource": "resource",
        "ScrapeDoTable": "translator",
        "ScrapeDoTranslator": "translator",
        "ScrapeOptions": "api.requests",
        "SubmitTargetsConfig": "ops_config",
        "Target": "engine.targets.target",
        "TargetsAsset": "targets",
        "TargetsFile": "targets",
        "build_scrape_do_assets": "assets",
        "build_scrape_do_sensor": "sensors",
        "build_ad_hoc_dataset": "ad_hoc",
        "collect_targets": "ops",
        "scrape_do_assets": "assets",
        "submit_targets": "ops",
    },
)


def __dir__() -> list[str]:
    """The public names, loaded or not: `dg` looks for components in it."""
    return __all__
