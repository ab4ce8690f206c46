"""Fetching to Parquet: pages of 50 KB, at several latencies and numbers of requests at once, beside the peers.

`python benchmarks/fetching.py [--quick]`
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from harness import Curve, Figure, Measured, Panel, Section, Table, Target, Worker, main, median_of, range_of
from service import Service
from variants import BODIES, LOOP_CONCURRENCY

Run = Callable[..., Measured]

SIZE = 50_000
STATED = 64  # requests at once in what is to be reached, and the default
MEANING = """
How fast results that are ready come home, in tasks a second, with so many requests at once. *Ours* is everything that
happens to a job that has ended: fetching, decoding, hashing, two Parquet tables, the ledger, and syncing the files to
disk. *Reading* is bare aiohttp that drops what it reads: what the machine, the server and the HTTP library can do at
most. *Same work* is a streaming loop written by hand on bare aiohttp that parses, decodes, hashes and writes the same
two tables, without ledger, order or syncing. *SDK* is the public SDK's `submit_and_wait`, which fetches one task at a
time, and pandas `to_parquet`; *SDK loop* is the SDK's asyncio client by hand with 32 at once, and pandas. At latency,
the most that can be had is requests at once / latency: 1,280 tasks a second for 64 at 50 ms. It is rates that are
compared: the slow peers fetch fewer tasks (the SDK 12 at 50 ms, 3 at 200 ms). All runs but those of 10,000 tasks take
half a second to a second, in which the last requests and syncing count more than in a long one; the latency of the one
request for the job is taken off.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """All latencies, then the figures that are to be reached."""
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
            run(name, 100)  # what is loaded and allocated once
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
                Figure(f"{STATED} at once, {at}", "tasks/s", ours, name, found[key]) for key, name in peers.items()
            ]
            rows += [
                (at, name, *(_cell(found.get((name, step), ())) for step in steps)) for name in ("ours", "reading")
            ]
            curves += _curves(Panel(f"50 KB pages {at}", "requests at once", "tasks/s"), steps, found)
        figures += _stated(run, 1 if quick else 5, 500 if quick else 10_000)
    caption = "Tasks a second by requests at once: median (min - max)."
    table = Table(("latency", "", *map(str, steps)), tuple(rows), caption)
    return Section("Fetching to Parquet", MEANING, tuple(figures), (table,), tuple(curves))


def _cell(values: tuple[float, ...]) -> str:
    return f"{median_of(values)} ({range_of(values) or '1 round'})" if values else "-"


def _grid(run: Run, rounds: int, latency: float, steps: tuple[int, ...]) -> dict[tuple[str, int], tuple[float, ...]]:
    """Tasks a second of each round, by variant and requests at once."""
    deep = {0.0: 0, 0.05: 8, 0.2: 3}[latency]  # requests one after another
    amounts = {("ours", step): deep * step or 600 for step in steps}
    # Fewer than 32 at once wait for the latency, and for nothing else.
    amounts |= {("reading", step): deep * step or 600 for step in steps if step >= 32 or not latency}
    amounts["same_work", STATED] = amounts["ours", STATED]
    amounts["sdk_loop", LOOP_CONCURRENCY] = deep * LOOP_CONCURRENCY or 400
    amounts["sdk", 1] = {0.0: 400, 0.05: 12, 0.2: 3}[latency]
    found: dict[tuple[str, int], tuple[float, ...]] = dict.fromkeys(amounts, ())
    for _ in range(rounds):
        for (name, step), tasks in amounts.items():
            took = run(name, tasks, step, latency).wall
            # These begin by asking for the job, which is one request for a thousand tasks and not for these few.
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
    """What is to be reached at 50 ms with 64 at once."""
    latency = 0.05
    possible = STATED / latency
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(run("ours", tasks, latency=latency))
        peer.append(20 / run("sdk", 20, latency=latency).wall)
    whole = tuple(tasks / each.wall for each in ours)
    fetching = tuple(tasks / each.result["fetching"] for each in ours)
    connections = tuple(float(each.result["connections"]) for each in ours)
    name = f"{tasks:,} tasks, {STATED} at once, at 50 ms"
    bound = "at once / latency"
    return [
        Figure(f"{name}: fetching", "tasks/s", fetching, bound, (possible,), (Target("at least", 0.9),)),
        Figure(f"{name}: everything", "tasks/s", whole, bound, (possible,), (Target("at least", 0.85),)),
        Figure(f"{name}: everything", "tasks/s", whole, "SDK", tuple(peer), (Target("at least", 40),)),
        Figure("connections for them", "TCP", connections, "at once", (float(STATED),), (Target("at most", 1),)),
    ]


if __name__ == "__main__":
    main(measure, BODIES)
