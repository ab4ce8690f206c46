"""What a tick of the completion sensor costs, by open jobs. `python benchmarks/ticks.py [--quick]`."""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from harness import Figure, Measured, Meter, Section, Table, Target, Worker, main, median_of, rounds
from service import TOKEN, Service, job_id, urls

if TYPE_CHECKING:
    from scrapedo_dagster.engine.ledger.ledger import Ledger

SIZES = (10, 100, 1_000, 5_000)
MANY = 1_000  # of which the targets speak; with more, the SDK asks once, and not in each round
TASKS = 100  # of each job
A_PARTITION = 10  # jobs
MEANING = f"""
One tick, as the daemon has it evaluated, with open jobs of {TASKS} tasks, {A_PARTITION} in each partition: while none
has ended, and the one that finds all of them ended, records that and asks for a run. Few jobs are asked for one by
one, more by listing pages of 100. Beside it the least that knows the same without a listing: `get_job` of the public
SDK for each open job, recorded nowhere. Seconds are of wall time, with the service on the same machine and without
latency.
""".strip().replace("\n", " ")


def tick(meter: Meter, *, url: str, jobs: int, ended: bool) -> dict[str, Any]:
    """One tick with so many open jobs, of a Dagster instance and a ledger of its own."""
    import dagster as dg

    from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, build_scrape_do_assets
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.url import default_url
    from scrapedo_dagster.execution import sensor_tick as completion

    logging.disable(logging.CRITICAL)
    completion._BUDGET = 120.0  # so that no tick of a slow machine is cut short
    keys = [f"p{number:05}" for number in range(-(-jobs // A_PARTITION))]
    dataset = build_scrape_do_assets(name="shop", targets=urls(1), partitions_def=dg.StaticPartitionsDefinition(keys))
    with tempfile.TemporaryDirectory(prefix="scrapedo-benchmark-") as home, ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.local_temp(home, {"telemetry": {"enabled": False}}))
        resources = {
            "scrape_do": ScrapeDoResource(api_token=TOKEN, base_url=url),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=f"{home}/data"),
        }
        repository = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources)).get_repository_def()
        ledger = Ledger(default_url(home))
        _submit(ledger, keys, jobs)
        ledger.close()
        [sensor] = dataset.sensors
        given = {"instance": instance, "repository_def": repository, "resources": resources}
        with dg.build_sensor_context(**given) as context, meter:
            found = sensor.evaluate_tick(context)
        if len(found.run_requests or ()) != ended:
            raise ValueError(f"{jobs} jobs, ended: {ended}, and the tick asks for {len(found.run_requests or ())} runs")
    return {}


def sdk(meter: Meter, *, url: str, jobs: int) -> dict[str, Any]:
    """The public SDK asks for each open job."""
    from scrape_do.async_api import ScrapeDoAsyncAPIClient

    class Client(ScrapeDoAsyncAPIClient):
        BASE_URL = url

    with Client(TOKEN) as client, meter:
        for number in range(jobs):
            client.get_job(job_id(number))
    return {}


def _submit(ledger: Ledger, keys: list[str], jobs: int) -> None:
    """Record jobs as submitted, without what that costs."""
    import sqlalchemy as sa

    from scrapedo_dagster.engine.ledger.records import RETENTION, account_fingerprint
    from scrapedo_dagster.engine.ledger.states import State
    from scrapedo_dagster.engine.ledger.tables import generations, submissions

    now = datetime.now(timezone.utc)
    generation = {"account": account_fingerprint(TOKEN), "dataset": "shop", "generation": 1}
    rows = [
        {
            **generation,
            "partition": json.dumps(keys[number // A_PARTITION]),
            "batch": number % A_PARTITION,
            "attempt": 0,
            "state": State.SUBMITTED.value,
            "entries": [],
            "target_count": TASKS,
            "fingerprint": "f",
            "job_id": job_id(number),
            "task_ids": [],
            "run_id": "run",
            **dict.fromkeys(("planned_at", "claimed_at", "submitted_at"), now),
            "expires_at": now + RETENTION,
        }
        for number in range(jobs)
    ]
    with ledger.engine.begin() as connection:
        connection.execute(sa.insert(generations), [{**generation, "partition": json.dumps(key)} for key in keys])
        connection.execute(sa.insert(submissions), rows)
        # As many bytes as targets and task ids take, compressed, which no tick reads.
        connection.execute(sa.update(submissions).values(entries=sa.func.randomblob(29 * TASKS)))


def measure(quick: bool) -> Section:
    """Ticks with none and all ended, beside asking for each job."""
    sizes, times = (SIZES[:2], 1) if quick else (SIZES, 5)
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        service = stack.enter_context(Service())
        worker, peer = (stack.enter_context(Worker(__file__, body)) for body in ("tick", "sdk"))
        for jobs in sizes:
            service.set(jobs=jobs, tasks=TASKS)
            variants = {
                "none has ended": ("pending", partial(worker.run, url=service.url, jobs=jobs, ended=False)),
                "all have ended": ("success", partial(worker.run, url=service.url, jobs=jobs, ended=True)),
            }
            asks = ("pending", partial(peer.run, url=service.url, jobs=jobs))
            if jobs <= MANY:
                variants["SDK"] = asks
            if jobs == sizes[0]:
                for status, run in variants.values():
                    _asked(service, status, run)  # what is loaded on first use
            found = rounds(
                times if jobs <= MANY else min(times, 3),
                {name: partial(_asked, service, *each) for name, each in variants.items()},
            )
            if jobs > MANY:
                found["SDK"] = [_asked(service, *asks)]
            for name in ("none has ended", "all have ended"):
                seconds = tuple(each.wall for each in found[name])
                targets = (Target("at most", 2, "value"),) if jobs == MANY else ()
                of_peer = tuple(each.wall for each in found["SDK"])
                figures.append(Figure(f"{jobs:,} open jobs, {name}", "s", seconds, "SDK, get_job", of_peer, targets))
                requests = tuple(each.result["requests"] for each in found[name])
                cpu = median_of([each.cpu for each in found[name]])
                rows.append((f"{jobs:,} open jobs, {name}", median_of(requests), cpu))
                if jobs == MANY:
                    few = (Target("at most", 15, "value"),)
                    figures.append(Figure(f"{jobs:,} open jobs, {name}", "requests", requests, targets=few))
    table = Table(("", "requests", "CPU, s"), tuple(rows), "Medians.")
    return Section("A tick of the sensor", MEANING, tuple(figures), (table,))


def _asked(service: Service, status: str, run: partial[Measured]) -> Measured:
    """One measurement, with how many requests it took."""
    service.set(status=status)
    measured = run()
    measured.result["requests"] = sum(service.counts().requests.values())
    return measured


if __name__ == "__main__":
    main(measure, {"tick": tick, "sdk": sdk})
