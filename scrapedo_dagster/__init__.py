"""Dagster integration for the Scrape.do Async API: scraping datasets as assets."""

from dagster_shared.libraries import DagsterLibraryRegistry
from lazy_loader import attach_stub

from scrapedo_dagster._version import __version__

# The names of `__init__.pyi`, each imported on first use.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

DagsterLibraryRegistry.register("scrapedo-dagster", __version__, is_dagster_package=False)
