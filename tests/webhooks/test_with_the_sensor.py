"""A dataset with webhooks, as Dagster runs it: results are delivered, and Scrape.do is hardly polled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, build_scrape_do_assets
from scrapedo_dagster.emulator import Emulator, EmulatorSettings
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger

TOKEN = "canary-7f3a9c"
SECRET = "canary-7f3a9c-current-secret"
TICKS = 20  # at the sensor's usual interval: a job that takes three minutes and a half
PARTITIONS = ["a", "b", "c"]


class Deployment:
    """A dataset of three partitions of six pages, its sensor, and the emulator that it polls."""

    def __init__(self, emulator: Emulator, site: DemoSite, directory: Path, webhook: dict[str, str]) -> None:
        def targets(context: dg.AssetExecutionContext) -> list[str]:
            return [f"{site.base_url}/2026-01-01/products/{n}?{context.partition_key}" for n in range(1, 7)]

        shop = build_scrape_do_assets(
            name="shop", targets=targets, partitions_def=dg.StaticPartitionsDefinition(PARTITIONS)
        )
        self.emulator = emulator
        self.directory = directory
        self.resources = {
            "scrape_do": ScrapeDoResource(
                api_token=TOKEN,
                base_url=emulator.base_url,
                ledger_url=f"sqlite:///{directory / 'ledger.db'}",
                **webhook,
            ),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(directory / "data")),
        }
        self.defs = dg.Definitions.merge(shop.defs, dg.Definitions(resources=self.resources))
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(directory))
        self.cursor: str | None = None

    def run(self, job_name: str, tags: Any = None, partition_key: str | None = None) -> None:
        job = self.defs.resolve_job_def(job_name)
        assert job.execute_in_process(instance=self.instance, tags=tags, partition_key=partition_key).success

    def submit(self) -> None:
        first, last = PARTITIONS[0], PARTITIONS[-1]
        edges = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        self.run("shop_submit", tags=edges)

    def tick(self) -> int:
        """Evaluate one tick and run what it launches. Returns how many runs that were."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=repository, resources=self.resources
        ) as context:
            ticked = repository.get_sensor_def("shop_completion").evaluate_tick(context)
        self.cursor = ticked.cursor
        for request in ticked.run_requests or []:
            self.run(request.job_name, tags=request.tags, partition_key=request.partition_key)
        return len(ticked.run_requests or [])

    def polls(self) -> int:
        """Return how often Scrape.do was polled."""
        requests = self.emulator.requests()
        return requests.get("get_job", 0) + requests.get("list_jobs", 0)

    def green(self) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(["shop", "tasks"]))

    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.directory / "data" / "shop" / "tasks")


@pytest.fixture
def deployed(site: DemoSite, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    emulators: list[Emulator] = []

    def deployed(name: str, url: str | None = None) -> Deployment:
        emulator = Emulator(settings=EmulatorSettings(token=TOKEN, speed=200, webhook_retry_seconds=(0.0,)))
        emulators.append(emulator)
        emulator.__enter__()
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        webhook = {"webhook_url": url, "webhook_secret": SECRET} if url else {}
        return Deployment(emulator, site, directory, webhook)

    yield deployed
    for emulator in emulators:
        emulator.__exit__(None, None, None)


def polls_while_running(deployment: Deployment, gate: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Submit, tick while the jobs run, let them end, tick until all is collected. Returns the polls while they ran."""
    passed = timedelta(0)
    now = Ledger.now
    monkeypatch.setattr(Ledger, "now", lambda self: now(self) + passed)
    deployment.emulator.set_faults({"targets": [{"kind": "linger", "match": gate, "seconds": 3600}]})
    deployment.submit()
    before = deployment.polls()
    for _ in range(TICKS):
        passed += timedelta(seconds=10)
        assert deployment.tick() == 0
    polls = deployment.polls() - before
    deployment.emulator.advance(timedelta(hours=1))
    deadline = time.monotonic() + 60
    while deployment.green() != set(PARTITIONS):
        assert time.monotonic() < deadline, f"only {deployment.green()} were collected"
        passed += timedelta(seconds=10)
        deployment.tick()
    assert deployment.rows().groupby("partition", observed=True).size().to_dict() == dict.fromkeys(PARTITIONS, 6)
    return polls


@pytest.mark.slow
def test_polling_falls_by_nine_tenths(
    deployed: Callable[..., Deployment],
    start: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polled = polls_while_running(deployed("polled"), "*/products/6*", monkeypatch)
    monkeypatch.undo()
    ledger = Ledger(f"sqlite:///{tmp_path / 'delivered' / 'ledger.db'}")
    receiver = start(ledger=ledger, inbox=Inbox(ledger))
    delivered = deployed("delivered", receiver.url)
    polls = polls_while_running(delivered, "*/products/6*", monkeypatch)
    fetched = delivered.emulator.requests().get("get_task", 0)
    print(f"polled {polled} times without and {polls} times with webhooks; {fetched} tasks fetched")
    assert polls <= 0.1 * polled
    assert fetched == 0


@pytest.mark.slow
def test_a_dead_receiver_costs_nothing_but_time(
    deployed: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every result is polled for and fetched."""
    assert polls_while_running(deployed("dead", "http://127.0.0.1:9"), "*/products/6*", monkeypatch) > 0
