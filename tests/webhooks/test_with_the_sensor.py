"""A dataset with webhooks, as Dagster runs it: results come by themselves, and Scrape.do is hardly asked."""

from __future__ import annotations

import socket
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

TOKEN = "canary-7f3a9c"
SECRET = "canary-7f3a9c-current-secret"
TICKS = 20  # at the sensor's usual interval: a job that takes three minutes and a half
PARTITIONS = ["a", "b", "c"]


class Deployment:
    """A dataset of three partitions of six pages, its sensor, and the emulator that it asks."""

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
        """One tick, and the runs that it launches. How many those were."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=repository, resources=self.resources
        ) as context:
            ticked = repository.get_sensor_def("shop_completion").evaluate_tick(context)
        self.cursor = ticked.cursor
        for request in ticked.run_requests or []:
            self.run(request.job_name, tags=request.tags, partition_key=request.partition_key)
        return len(ticked.run_requests or [])

    def asked(self) -> int:
        """How often Scrape.do was asked how far jobs are."""
        requests = self.emulator.requests()
        return requests.get("get_job", 0) + requests.get("list_jobs", 0)

    def green(self) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(["shop", "tasks"]))

    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.directory / "data" / "shop" / "tasks")


@pytest.fixture
def deployed(site: DemoSite, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    emulators: list[Emulator] = []

    def deployed(name: str, url: str | None = None, inbox: str | None = None) -> Deployment:
        emulator = Emulator(settings=EmulatorSettings(token=TOKEN, speed=200, webhook_retry_seconds=(0.0,)))
        emulators.append(emulator)
        emulator.__enter__()
        directory = tmp_path / name
        directory.mkdir()
        place = inbox or str(tmp_path / "inbox")
        webhook = {"webhook_url": url, "webhook_secret": SECRET, "webhook_inbox": place} if url else {}
        return Deployment(emulator, site, directory, webhook)

    yield deployed
    for emulator in emulators:
        emulator.__exit__(None, None, None)


def brought_home(deployment: Deployment, gate: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Submit, tick while the jobs linger, let them end, tick until all is there. How often it was asked at first."""
    from scrapedo_dagster.engine.ledger.ledger import Ledger

    passed = timedelta(0)
    now = Ledger.now
    monkeypatch.setattr(Ledger, "now", lambda self: now(self) + passed)
    deployment.emulator.set_faults({"targets": [{"kind": "linger", "match": gate, "seconds": 3600}]})
    deployment.submit()
    asked = deployment.asked()
    for _ in range(TICKS):
        passed += timedelta(seconds=10)
        assert deployment.tick() == 0
    asked = deployment.asked() - asked
    deployment.emulator.advance(timedelta(hours=1))
    deadline = time.monotonic() + 60
    while deployment.green() != set(PARTITIONS):
        assert time.monotonic() < deadline, f"only {deployment.green()} were collected"
        passed += timedelta(seconds=10)
        deployment.tick()
    assert deployment.rows().groupby("partition", observed=True).size().to_dict() == dict.fromkeys(PARTITIONS, 6)
    return asked


@pytest.mark.slow
def test_polling_falls_by_nine_tenths(
    deployed: Callable[..., Deployment], start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = brought_home(deployed("polled"), "*/products/6*", monkeypatch)
    monkeypatch.undo()
    receiver = start()
    delivered = deployed("delivered", receiver.url)
    asked = brought_home(delivered, "*/products/6*", monkeypatch)
    fetched = delivered.emulator.requests().get("get_task", 0)
    print(f"asked {polled} times without and {asked} times with webhooks; {fetched} tasks fetched")
    assert asked <= 0.1 * polled
    assert fetched == 0


@pytest.mark.slow
def test_a_dead_receiver_costs_nothing_but_time(
    deployed: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polling brings every result."""
    assert brought_home(deployed("dead", "http://127.0.0.1:9"), "*/products/6*", monkeypatch) > 0


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers: the backlog is enough for that."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("query", ["", "?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"])
def test_an_inbox_out_of_reach_or_without_an_answer_keeps_nothing_from_being_collected(
    deployed: Callable[..., Deployment], silent: int, query: str, eventually: Any
) -> None:
    deployment = deployed(
        "away", "http://127.0.0.1:9", f"s3://k:s@scrapedo-nobody-has-this-bucket/x{query.format(port=silent)}"
    )
    deployment.submit()
    eventually(lambda: {each.status for each in deployment.emulator.jobs()} == {"success"})
    began = time.monotonic()
    launched = deployment.tick()
    assert time.monotonic() - began < 45, "of which a tick waits five seconds, and a run a few times so long"
    assert launched
    assert deployment.green() == set(PARTITIONS)
    assert len(deployment.rows()) == 18
