"""End to end: 100,000 targets of one partition are planned, claimed, submitted, fetched and written.

`python benchmarks/whole.py [--quick]`
"""

from __future__ import annotations

from harness import Curve, Figure, Panel, Section, Target, fresh, main, rounds
from service import Service
from variants import BODIES

SIZE = 5_000
CASES = ((1_000, 5), (10_000, 3), (100_000, 1))  # targets, rounds
MEANING = """
A partition from its list of targets to its complete Parquet: plan, claim and submit in jobs of 1,000, see that they
have ended, fetch, write, record. Pages of 5 KB, no latency, 64 at once, each time in a fresh process; the 100,000 are
measured once. *Same work* is the loop by hand on bare aiohttp, from jobs that have ended. The cost of a task should
be the same in a partition of 1,000 and of 100,000; what a process does once is in the cost of the first.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Wall time, CPU time and memory by the number of targets."""
    figures: list[Figure] = []
    curves: dict[str, list[tuple[float, tuple[float, ...]]]] = {"ours": [], "same work": []}
    first_cpu: tuple[float, ...] = ()
    first_peak: tuple[float, ...] = ()
    with Service(size=SIZE) as service:
        for targets, times in [(500, 1), (5_000, 1)] if quick else CASES:

            def run(name: str, targets: int = targets):
                return lambda: fresh(__file__, name, url=service.url, tasks=targets, size=SIZE)

            found = rounds(times, {"ours": run("ours_whole"), "same work": run("same_work")})
            name = f"{targets:,} targets"
            ours, same = found["ours"], found["same work"]
            cpu = tuple(each.cpu / targets * 1e6 for each in ours)
            peak = tuple(each.peak for each in ours)
            figures += [
                Figure(
                    f"{name}: wall time",
                    "s",
                    tuple(each.wall for each in ours),
                    "same work",
                    tuple(each.wall for each in same),
                ),
                Figure(f"{name}: CPU time", "s", tuple(each.cpu for each in ours)),
            ]
            first_cpu, first_peak = first_cpu or cpu[:], first_peak or peak[:]
            if cpu is first_cpu or cpu == first_cpu:
                figures += [Figure(f"{name}: CPU a task", "us", cpu), Figure(f"{name}: peak memory", "MB", peak)]
            else:
                base, least = "the first", (sorted(first_cpu)[len(first_cpu) // 2],)
                limits = (Target("at most", 1.2), Target("at most", 400, "value"))
                lowest = (sorted(first_peak)[len(first_peak) // 2],)
                figures += [
                    Figure(f"{name}: CPU a task", "us", cpu, base, least, (Target("at most", 1.1),)),
                    Figure(f"{name}: peak memory", "MB", peak, base, lowest, limits),
                ]
            for label in curves:
                curves[label].append((targets, tuple(each.wall / targets * 1e6 for each in found[label])))
    panel = Panel("End to end, 5 KB pages", "targets of the partition", "microseconds a target")
    return Section(
        "End to end",
        MEANING,
        tuple(figures),
        curves=tuple(Curve(panel, label, tuple(points)) for label, points in curves.items()),
    )


if __name__ == "__main__":
    main(measure, BODIES)
