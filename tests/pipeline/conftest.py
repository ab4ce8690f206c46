"""A site to scrape, an emulator to scrape it with, and a place for the results."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource
from scrapedo_dagster.demo.site import DemoSite
from scrapedo_dagster.emulator import Emulator

TOKEN = "canary-7f3a9c"


@pytest.fixture
def site() -> Iterator[DemoSite]:
    with DemoSite() as site:
        yield site


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(token=TOKEN, speed=50) as emulator:
        yield emulator


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def resources(emulator: Emulator, data: Path) -> dict[str, Any]:
    return {
        "scrape_do": ScrapeDoResource(api_token=TOKEN, base_url=emulator.base_url, request_timeout=10, max_attempts=3),
        "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(data)),
    }


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def materialize(resources: dict[str, Any], instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Materialise assets against the emulator; a failed run is returned, not raised."""

    def materialize(*assets: Any, **arguments: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(list(assets), resources=resources, instance=instance, raise_on_error=False, **arguments)

    return materialize
