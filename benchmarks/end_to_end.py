"""End to end: plan, submit, fetch and write up to 100,000 targets of one partition.

`python benchmarks/end_to_end.py [--quick]`
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median

from collect_variants import BODIES
from harness import Curve, Figure, Goal, Measured, Panel, Section, fresh, main, rounds
from local_service import Service

SIZE = 5_000
CASES = ((1_000, 5), (10_000, 2), (100_000, 1))  # targets, rounds
PEER_UP_TO = 10_000
MEANING = """
A partition from its list of targets to its complete Parquet files: plan, claim and submit in jobs of 1,000, poll,
fetch, write, record. Pages of 5 KB, no latency, 64 concurrent requests, each run in a new process; 100,000 targets are
measured once. *Same work* is the hand-written loop on bare aiohttp, from finished jobs. The cost of a task should be
the same in a partition of 1,000 and of 100,000; the cost of 1,000 includes what a process does only once.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Measure wall time, CPU time and memory by the number of targets."""
    cases = ((500, 1), (2_000, 1)) if quick else CASES
    found: dict[int, dict[str, list[Measured]]] = {}
    with Service(size=SIZE) as service:
        for targets, times in cases:
            settings = {"url": service.url, "tasks": targets, "size": SIZE}
            names = ("ours_whole", "same_work") if targets <= PEER_UP_TO else ("ours_whole",)
            found[targets] = rounds(times, {name: partial(fresh, __file__, name, **settings) for name in names})
    least = cases[0][0]
    figures: list[Figure] = []
    for targets, by_name in found.items():
        ours, same = by_name["ours_whole"], by_name.get("same_work", [])
        name, base = f"{targets:,} targets", f"{least:,} targets"
        figures += [
            Figure(f"{name}: wall time", "s", _walls(ours), "same work" if same else None, _walls(same)),
            Figure(f"{name}: CPU time", "s", tuple(each.cpu for each in ours)),
            Figure(f"{name}: CPU per target", "us", _cost(ours, targets)),
            Figure(f"{name}: peak memory", "MB", tuple(each.peak for each in ours)),
        ]
        if targets != least:
            first = found[least]["ours_whole"]
            cost, peak = (median(_cost(first, least)),), (median(each.peak for each in first),)
            bound = (Goal("at most", 1.2), Goal("at most", 400, "value"))
            figures[-2:] = [
                replace(figures[-2], peer=base, peer_values=cost, goals=(Goal("at most", 1.1),)),
                replace(figures[-1], peer=base, peer_values=peak, goals=bound),
            ]
    panel = Panel("End to end, 5 KB pages", "targets of the partition", "microseconds per target")
    labels = {"ours_whole": "ours, from the list of targets", "same_work": "bare aiohttp, same work"}
    curves = []
    for name, label in labels.items():
        points = ((targets, _each(each[name], targets)) for targets, each in found.items() if name in each)
        curves.append(Curve(panel, label, tuple(points)))
    return Section("End to end", MEANING, tuple(figures), curves=tuple(curves))


def _walls(measured: list[Measured]) -> tuple[float, ...]:
    return tuple(each.wall for each in measured)


def _each(measured: list[Measured], targets: int) -> tuple[float, ...]:
    """Return the microseconds of wall time per target."""
    return tuple(1e6 * wall / targets for wall in _walls(measured))


def _cost(measured: list[Measured], targets: int) -> tuple[float, ...]:
    """Microseconds of CPU per target."""
    return tuple(1e6 * each.cpu / targets for each in measured)


if __name__ == "__main__":
    main(measure, BODIES)
