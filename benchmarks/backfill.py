"""Cost of a backfill of many small partitions in one run. `python benchmarks/backfill.py [--quick]`."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from functools import partial
from typing import Any

from harness import Figure, Measured, Meter, Section, Table, Worker, main, median_of, rounds
from local_service import TOKEN, Service, urls

TARGETS = 20  # per partition
YEAR, FORTNIGHT = 365, 14  # partitions
SIZE = 5_000
MEANING = f"""
One run submits and collects daily partitions of {TARGETS} targets each: per partition a job, two Parquet tables, rows
in the ledger and an event for each of three assets. The peer is a bare multi-asset of Dagster with the same three
assets and partitions, which only emits the same number of events. The difference is our own work, including all
requests, files and syncs. Seconds are CPU time of the process of the run, with the in-process executor and the storage
of Dagster in SQLite; the service runs on the same machine.
""".strip().replace("\n", " ")


def ours(meter: Meter, *, url: str, partitions: int) -> dict[str, Any]:
    """The three assets of a dataset."""
    from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, build_scrape_do_assets
    from scrapedo_dagster.engine.collection import coordinator as collect_generations  # noqa: F401 - loaded by steps

    listed, days = urls(partitions * TARGETS), _days(partitions)
    first_of = {key: number * TARGETS for number, key in enumerate(days.get_partition_keys())}

    def targets(context: Any) -> list[str]:
        first = first_of[context.partition_key]
        return listed[first : first + TARGETS]

    with tempfile.TemporaryDirectory(prefix="scrapedo-benchmark-") as home:
        dataset = build_scrape_do_assets(name="shop", targets=targets, partitions_def=days)
        io_manager = ScrapeDoParquetIOManager(base_uri=f"{home}/data")
        resources = {"scrape_do": ScrapeDoResource(api_token=TOKEN, base_url=url), "scrape_do_parquet": io_manager}
        counts = _run(meter, home, list(dataset.assets), days, resources)
        tasks = io_manager.store.table(dataset.dataset.tasks_key.path)
        if tasks.dataset(list(days.get_partition_keys())).count_rows() != partitions * TARGETS:
            raise ValueError("some targets have no row")
    return counts


def bare(meter: Meter, *, partitions: int) -> dict[str, Any]:
    """Three assets that do nothing."""
    import dagster as dg

    days = _days(partitions)
    names = ("jobs", "tasks", "contents")

    @dg.multi_asset(
        specs=[dg.AssetSpec(["shop", name]) for name in names],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def nothing(context):
        for name in names:
            for key in context.partition_keys:
                counts = {"dagster/partition_row_count": TARGETS}
                context.add_asset_metadata(counts, asset_key=dg.AssetKey(["shop", name]), partition_key=key)
        for name in names:
            yield dg.MaterializeResult(["shop", name])

    with tempfile.TemporaryDirectory(prefix="scrapedo-benchmark-") as home:
        return _run(meter, home, [nothing], days, {})


def _days(partitions: int) -> Any:
    import dagster as dg

    year = dg.DailyPartitionsDefinition("2025-01-01", end_date="2026-01-01")
    return dg.DailyPartitionsDefinition("2025-01-01", end_date=[*year.get_partition_keys(), "2026-01-01"][partitions])


def _run(meter: Meter, home: str, assets: list[Any], days: Any, resources: dict[str, Any]) -> dict[str, Any]:
    """Materialize all partitions in one run. Returns the number of events."""
    import dagster as dg

    logging.disable(logging.CRITICAL)  # hides the output on stderr, but not the event log
    keys = days.get_partition_keys()
    edges = {f"dagster/asset_partition_range_{edge}": key for edge, key in (("start", keys[0]), ("end", keys[-1]))}
    with dg.DagsterInstance.local_temp(home, {"telemetry": {"enabled": False}}) as instance:
        with meter:
            result = dg.materialize(assets, instance=instance, resources=resources, tags=edges)
        events = result.get_asset_materialization_events()
    if len(events) != 3 * len(keys):
        raise ValueError(f"{len(events)} events for {len(keys)} partitions of three assets")
    return {"events": len(events)}


def measure(quick: bool) -> Section:
    """Measure a fortnight in each round, and a year once."""
    sizes = ((2, 1),) if quick else ((FORTNIGHT, 5), (YEAR, 1))
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        service = stack.enter_context(Service(size=SIZE))
        worker, peer = (stack.enter_context(Worker(__file__, body)) for body in ("ours", "bare"))
        worker.run(url=service.url, partitions=1)  # loads libraries
        peer.run(partitions=1)
        for partitions, times in sizes:
            variants = {
                "ours": partial(worker.run, url=service.url, partitions=partitions),
                "bare": partial(peer.run, partitions=partitions),
            }
            found = rounds(times, variants)
            service.forget()
            cpu = {name: _milliseconds(each, partitions) for name, each in found.items()}
            own = tuple(a - b for a, b in zip(cpu["ours"], cpu["bare"], strict=True))
            name = f"{partitions} partitions"
            figures.append(Figure(f"{name}, all", "ms of CPU per partition", cpu["ours"], "bare", cpu["bare"]))
            figures.append(Figure(f"{name}, our own work", "ms of CPU per partition", own))
            rows.append((name, *(f"{median_of([run.wall for run in found[each]])}" for each in ("ours", "bare"))))
    table = Table(("", "ours, s", "bare, s"), tuple(rows), "Wall time of the run.")
    return Section("Backfill in one run", MEANING, tuple(figures), (table,))


def _milliseconds(measured: list[Measured], partitions: int) -> tuple[float, ...]:
    return tuple(1000 * each.cpu / partitions for each in measured)


if __name__ == "__main__":
    main(measure, {"ours": ours, "bare": bare})
