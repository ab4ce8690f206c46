"""Fetching to Parquet: pages of 50 KB at several latencies and concurrencies, compared with peers.

`python benchmarks/fetching.py [--quick]`
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from collect_variants import BODIES, LOOP_CONCURRENCY
from harness import Curve, Figure, Goal, Measured, Panel, Section, Table, Worker, main, median_of, range_of
from local_service import Service

Run = Callable[..., Measured]

SIZE = 50_000
STATED = 64  # concurrent requests of the goals, and the default
MEANING = """
How many tasks of finished jobs are collected per second, by the number of concurrent requests. *Ours* does all of
collecting: fetching, decoding, hashing, two Parquet tables, the ledger, and syncing the files to disk. *Reading* is
bare aiohttp that discards what it reads: the maximum of the machine, the server and the HTTP library. *Same work* is a
hand-written loop on bare aiohttp that parses, decodes, hashes and writes the same two tables, without ledger, order and
syncing. *SDK* is `submit_and_wait` of the public SDK, which fetches one task at a time, with `to_parquet` of pandas.
*SDK loop* is the asyncio client of the SDK with 32 concurrent requests, and pandas. With latency the maximum rate is
concurrent requests / latency: 1,280 tasks per second for 64 at 50 ms. Rates are compared, since the slow peers fetch
fewer tasks (the SDK 12 at 50 ms, 3 at 200 ms). All runs except those of 10,000 tasks take half a second to a second, so
the last requests and syncing count more than in a long run. The latency of the request for the job is subtracted.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Measure all latencies, then the figures with goals."""
    rounds, latencies, steps = (1, (0.05,), (STATED,)) if quick else (5, (0.0, 0.05, 0.2), (1, 8, 32, STATED, 128))
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    curves: list[Curve] = []
    with ExitStack() as stack:
        service = stack.enter_context(Service(size=SIZE))
        workers = {
            name: stack.enter_context(Worker(__file__, name))
            for name in ("ours", "reading", "same_work", "sdk", "sdk_loop")
        }

        def run(name: str, tasks: int, concurrency: int = STATED, latency: float = 0.0) -> Measured:
            return workers[name].run(url=service.url, tasks=tasks, size=SIZE, concurrency=concurrency, latency=latency)

        for name in workers:
            run(name, 100)  # loads libraries and allocates memory
        for latency in latencies:
            found = _grid(run, rounds, latency, steps)
            at = f"at {latency * 1000:.0f} ms" if latency else "without latency"
            ours = found["ours", STATED]
            peers = {
                ("reading", STATED): "reading",
                ("same_work", STATED): "same work",
                ("sdk_loop", LOOP_CONCURRENCY): "SDK loop",
                ("sdk", 1): "SDK",
            }
            figures += [
                Figure(f"{STATED} concurrent, {at}", "tasks/s", ours, name, found[key]) for key, name in peers.items()
            ]
            rows += [
                (at, name, *(_cell(found.get((name, step), ())) for step in steps)) for name in ("ours", "reading")
            ]
            curves += _curves(Panel(f"50 KB pages {at}", "concurrent requests", "tasks/s"), steps, found)
        figures += _stated(run, 1 if quick else 5, 500 if quick else 10_000)
    caption = "Tasks per second by concurrent requests: median (min - max)."
    table = Table(("latency", "", *map(str, steps)), tuple(rows), caption)
    return Section("Fetching to Parquet", MEANING, tuple(figures), (table,), tuple(curves))


def _cell(values: tuple[float, ...]) -> str:
    return f"{median_of(values)} ({range_of(values) or '1 round'})" if values else "-"


def _grid(run: Run, rounds: int, latency: float, steps: tuple[int, ...]) -> dict[tuple[str, int], tuple[float, ...]]:
    """Return the tasks per second of each round, by variant and concurrent requests."""
    waves = {0.0: 0, 0.05: 8, 0.2: 3}[latency]  # sequential requests per connection
    amounts = {("ours", step): waves * step or 600 for step in steps}
    # With latency, the rate below 32 concurrent requests is known: it is only latency.
    amounts |= {("reading", step): waves * step or 600 for step in steps if step >= 32 or not latency}
    amounts["same_work", STATED] = amounts["ours", STATED]
    amounts["sdk_loop", LOOP_CONCURRENCY] = waves * LOOP_CONCURRENCY or 400
    amounts["sdk", 1] = {0.0: 400, 0.05: 12, 0.2: 3}[latency]
    found: dict[tuple[str, int], tuple[float, ...]] = dict.fromkeys(amounts, ())
    for _ in range(rounds):
        for (name, step), tasks in amounts.items():
            took = run(name, tasks, step, latency).wall
            # These request the job first. One request counts for a thousand tasks, but distorts a run of few.
            found[name, step] += (tasks / (took - latency if name in {"ours", "same_work"} else took),)
    return found


def _curves(panel: Panel, steps: tuple[int, ...], found: dict[tuple[str, int], tuple[float, ...]]) -> list[Curve]:
    by_step = {
        label: tuple((step, found[name, step]) for step in steps if (name, step) in found)
        for name, label in (("reading", "bare aiohttp, only reading"), ("ours", "ours, everything to Parquet"))
    }
    by_step["bare aiohttp, same work"] = ((STATED, found["same_work", STATED]),)
    by_step["SDK's asyncio client, pandas"] = ((LOOP_CONCURRENCY, found["sdk_loop", LOOP_CONCURRENCY]),)
    by_step["SDK submit_and_wait, pandas"] = ((1, found["sdk", 1]),)
    return [Curve(panel, label, points) for label, points in by_step.items()]


def _stated(run: Run, rounds: int, tasks: int) -> list[Figure]:
    """Measure the figures with goals: 64 concurrent requests at 50 ms."""
    latency = 0.05
    possible = STATED / latency
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(run("ours", tasks, latency=latency))
        peer.append(20 / run("sdk", 20, latency=latency).wall)
    whole = tuple(tasks / each.wall for each in ours)
    fetching = tuple(tasks / each.result["fetching"] for each in ours)
    connections = tuple(float(each.result["connections"]) for each in ours)
    name = f"{tasks:,} tasks, {STATED} concurrent, at 50 ms"
    bound = "concurrent / latency"
    return [
        Figure(f"{name}: fetching", "tasks/s", fetching, bound, (possible,), (Goal("at least", 0.9),)),
        Figure(f"{name}: everything", "tasks/s", whole, bound, (possible,), (Goal("at least", 0.85),)),
        Figure(f"{name}: everything", "tasks/s", whole, "SDK", tuple(peer), (Goal("at least", 40),)),
        Figure("connections", "TCP", connections, "concurrent", (float(STATED),), (Goal("at most", 1),)),
    ]


if __name__ == "__main__":
    main(measure, BODIES)
