"""Cost of a tick of the completion sensor by open jobs. `python benchmarks/sensor_ticks.py [--quick]`."""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from harness import Figure, Goal, Measured, Meter, Section, Table, Worker, main, median_of, rounds
from local_service import TOKEN, Service, job_id, urls

if TYPE_CHECKING:
    from scrapedo_dagster.engine.ledger.ledger import Ledger

SIZES = (10, 100, 1_000, 5_000)
MANY = 1_000  # open jobs of the goals; with more, the SDK is measured only once
TASKS = 100  # per job
JOBS_PER_PARTITION = 10
MEANING = f"""
One tick with open jobs of {TASKS} tasks, {JOBS_PER_PARTITION} per partition: a tick while no job has ended, and the
tick that finds all of them ended, records this and requests a run. Few jobs are polled one by one, more by listing
pages of 100. The peer is the minimum without a listing: `get_job` of the public SDK for each open job, recorded
nowhere. Seconds are wall time, with the service on the same machine and without latency.
""".strip().replace("\n", " ")


def tick(meter: Meter, *, url: str, jobs: int, ended: bool) -> dict[str, Any]:
    """Evaluate one tick with open jobs, in a new Dagster instance and ledger."""
    import dagster as dg

    from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, build_scrape_do_assets
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.url import default_url
    from scrapedo_dagster.execution.tick_session import TickLimits
    from scrapedo_dagster.sensors import completion_sensor

    logging.disable(logging.CRITICAL)
    keys = [f"p{number:05}" for number in range(-(-jobs // JOBS_PER_PARTITION))]
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
        limits = TickLimits(seconds=120.0)  # so that no tick of a slow machine is cut short
        sensor = completion_sensor("completion", [(dataset.dataset, dataset.jobs[1])], limits=limits)
        given = {"instance": instance, "repository_def": repository, "resources": resources}
        with dg.build_sensor_context(**given) as context, meter:
            found = sensor.evaluate_tick(context)
        if len(found.run_requests or ()) != ended:
            raise ValueError(f"{jobs} jobs, ended: {ended}: the tick requests {len(found.run_requests or ())} runs")
    return {}


def sdk(meter: Meter, *, url: str, jobs: int) -> dict[str, Any]:
    """Poll each open job with the public SDK."""
    from scrape_do.async_api import ScrapeDoAsyncAPIClient

    class Client(ScrapeDoAsyncAPIClient):
        BASE_URL = url

    with Client(TOKEN) as client, meter:
        for number in range(jobs):
            client.get_job(job_id(number))
    return {}


def _submit(ledger: Ledger, keys: list[str], jobs: int) -> None:
    """Record jobs as submitted, without submitting them."""
    import sqlalchemy as sa

    from scrapedo_dagster.engine.ledger.records import RETENTION, account_fingerprint
    from scrapedo_dagster.engine.ledger.states import State
    from scrapedo_dagster.engine.ledger.tables import generations, submissions

    now = datetime.now(timezone.utc)
    generation = {"account": account_fingerprint(TOKEN), "dataset": "shop", "generation": 1}
    rows = [
        {
            **generation,
            "partition": json.dumps(keys[number // JOBS_PER_PARTITION]),
            "batch": number % JOBS_PER_PARTITION,
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
        # As large as the compressed targets and task ids, which ticks do not read.
        connection.execute(sa.update(submissions).values(entries=sa.func.randomblob(29 * TASKS)))


def measure(quick: bool) -> Section:
    """Measure ticks with no job and with all jobs ended, and polling each job."""
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
            peer_run = ("pending", partial(peer.run, url=service.url, jobs=jobs))
            if jobs <= MANY:
                variants["SDK"] = peer_run
            if jobs == sizes[0]:
                for status, run in variants.values():
                    _counted(service, status, run)  # loads libraries
            found = rounds(
                times if jobs <= MANY else min(times, 3),
                {name: partial(_counted, service, *each) for name, each in variants.items()},
            )
            if jobs > MANY:
                found["SDK"] = [_counted(service, *peer_run)]
            for name in ("none has ended", "all have ended"):
                seconds = tuple(each.wall for each in found[name])
                goals = (Goal("at most", 2, "value"),) if jobs == MANY else ()
                of_peer = tuple(each.wall for each in found["SDK"])
                figures.append(Figure(f"{jobs:,} open jobs, {name}", "s", seconds, "SDK, get_job", of_peer, goals))
                requests = tuple(each.result["requests"] for each in found[name])
                cpu = median_of([each.cpu for each in found[name]])
                rows.append((f"{jobs:,} open jobs, {name}", median_of(requests), cpu))
                if jobs == MANY:
                    few = (Goal("at most", 15, "value"),)
                    figures.append(Figure(f"{jobs:,} open jobs, {name}", "requests", requests, goals=few))
    table = Table(("", "requests", "CPU, s"), tuple(rows), "Medians.")
    return Section("A tick of the sensor", MEANING, tuple(figures), (table,))


def _counted(service: Service, status: str, run: partial[Measured]) -> Measured:
    """Run once with jobs in this status, and add the number of requests."""
    service.set(status=status)
    measured = run()
    measured.result["requests"] = sum(service.counts().requests.values())
    return measured


if __name__ == "__main__":
    main(measure, {"tick": tick, "sdk": sdk})
