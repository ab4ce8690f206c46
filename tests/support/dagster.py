"""A site to scrape, an emulator to scrape it with, datasets of it, ticks of their sensor, and the runs it asks for."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import pytest

from scrapedo_dagster import (
    ScrapeDoDataset,
    ScrapeDoParquetIOManager,
    ScrapeDoResource,
    build_scrape_do_assets,
    build_scrape_do_sensor,
)
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.io_manager import ParquetResource
from scrapedo_dagster.sensors import completion_sensor

TOKEN = "canary-7f3a9c"


@pytest.fixture
def site() -> Iterator[DemoSite]:
    with DemoSite() as site:
        yield site


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(token=TOKEN, speed=500) as emulator:
        yield emulator


@pytest.fixture
def service_url(emulator: Emulator) -> str:
    """Where the resource finds Scrape.do."""
    return emulator.base_url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def resources(service_url: str, data: Path) -> dict[str, Any]:
    return {
        "scrape_do": ScrapeDoResource(api_token=TOKEN, base_url=service_url, request_timeout=10, max_attempts=3),
        "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(data)),
    }


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def ledger(instance: dg.DagsterInstance) -> Iterator[Ledger]:
    """The one that runs and sensors of the instance use."""
    ledger = Ledger(f"sqlite:///{Path(instance.root_directory) / 'scrapedo' / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def pages(site: DemoSite) -> Callable[[str], list[str]]:
    """Three targets of a partition; other partitions have others."""
    return lambda key: [f"{site.base_url}/2026-01-01/products/{number}?of={key}" for number in range(1, 4)]


@pytest.fixture
def shop(pages: Callable[[str], list[str]]) -> Callable[..., ScrapeDoDataset]:
    """A dataset; by default of the partitions a, b, c and d."""

    def shop(name: str = "shop", **settings: Any) -> ScrapeDoDataset:
        settings = {"partitions_def": dg.StaticPartitionsDefinition(["a", "b", "c", "d"]), **settings}
        partitioned = settings["partitions_def"] is not None
        settings.setdefault("targets", lambda context: pages(str(context.partition_key) if partitioned else ""))
        return build_scrape_do_assets(name=name, **settings)

    return shop


class Run(Protocol):
    def __call__(self, *assets: Any, **arguments: Any) -> dg.ExecuteInProcessResult: ...


@pytest.fixture
def materialize(resources: dict[str, Any], instance: dg.DagsterInstance) -> Run:
    """Materialize assets; a failed run is returned, not raised. `between=("a", "c")` is a run of a range."""

    def materialize(
        *assets: Any, between: tuple[str, str] | None = None, tags: dict[str, str] | None = None, **arguments: Any
    ) -> dg.ExecuteInProcessResult:
        tags = dict(tags or {})
        if between is not None:
            edges = zip(("start", "end"), between, strict=True)
            tags |= {f"dagster/asset_partition_range_{edge}": key for edge, key in edges}
        return dg.materialize(
            list(assets), resources=resources, instance=instance, raise_on_error=False, tags=tags, **arguments
        )

    return materialize


def with_step(asset: Any, step: Callable[..., Iterable[dg.MaterializeResult[None]]]) -> dg.AssetsDefinition:
    """An asset of a dataset with another step, which gets the context and both resources."""

    @dg.multi_asset(name=asset.op.name, specs=list(asset.specs), backfill_policy=asset.backfill_policy)
    def replaced(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        yield from step(context, scrape_do, scrape_do_parquet)

    return replaced


@pytest.fixture
def tick_log() -> list[str]:
    """The lines that the ticks have logged."""
    return []


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def defs_of(resources: dict[str, Any]) -> Callable[..., dg.Definitions]:
    """A code location with these datasets."""

    made: dict[tuple[int, ...], tuple[dg.Definitions, tuple[ScrapeDoDataset, ...]]] = {}

    def defs_of(*datasets: ScrapeDoDataset) -> dg.Definitions:
        which = tuple(map(id, datasets))
        if which not in made:
            merged = dg.Definitions.merge(*(each.defs for each in datasets), dg.Definitions(resources=resources))
            made[which] = merged, datasets  # kept, so that no other gets its id
        return made[which][0]

    return defs_of


@pytest.fixture
def tick(
    defs_of: Callable[..., dg.Definitions],
    resources: dict[str, Any],
    instance: dg.DagsterInstance,
    tick_log: list[str],
) -> Callable[..., Any]:
    """One tick of the sensor of some datasets, as the daemon evaluates it; `limits` and `clock` may be given."""

    def tick(*datasets: ScrapeDoDataset, cursor: str | None = None, **settings: Any) -> Any:
        jobs = [(each.dataset, next(job for job in each.jobs if job.name.endswith("_collect"))) for each in datasets]
        sensor = completion_sensor("completion", jobs, **settings) if settings else build_scrape_do_sensor(*datasets)
        repository = defs_of(*datasets).get_repository_def()
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository, resources=resources
        ) as context:
            context.log.addHandler(_Lines(tick_log))
            return sensor.evaluate_tick(context)

    return tick


@pytest.fixture
def collect(
    defs_of: Callable[..., dg.Definitions], instance: dg.DagsterInstance
) -> Callable[..., dg.ExecuteInProcessResult]:
    """Run what a tick has asked for, as the daemon would."""

    def collect(request: dg.RunRequest, *datasets: ScrapeDoDataset) -> dg.ExecuteInProcessResult:
        assert request.job_name is not None
        job = defs_of(*datasets).resolve_job_def(request.job_name)
        return job.execute_in_process(
            tags=request.tags, partition_key=request.partition_key, instance=instance, raise_on_error=False
        )

    return collect


@pytest.fixture
def events(instance: dg.DagsterInstance) -> Callable[[str], Counter[str | None]]:
    """How many materializations of an asset Dagster has recorded, of each partition."""

    def events(key: str) -> Counter[str | None]:
        records = instance.fetch_materializations(dg.AssetKey(key.split("/")), limit=10_000).records
        return Counter(record.partition_key for record in records)

    return events


@pytest.fixture
def ended(emulator: Emulator) -> Callable[[], None]:
    """Wait until all jobs of the emulator have ended."""

    def ended() -> None:
        deadline = time.monotonic() + 20
        while any(job.status not in {"success", "error", "canceled"} for job in emulator.jobs()):
            assert time.monotonic() < deadline, "a job does not end"
            time.sleep(0.01)

    return ended
