"""Peak memory by size of partition and pages. `python benchmarks/memory.py [--quick]`."""

from __future__ import annotations

from collect_variants import BODIES
from harness import Figure, Goal, Section, fresh, main, rounds
from local_service import Service

# Bytes of a page, tasks of the small and of the large partition, rounds.
CASES = ((50_000, 1_000, 10_000, 1), (500_000, 1_000, 3_000, 1))
MEANING = """
Peak memory of a process that collects, including Python and the libraries (about half of it). It must not grow with the
partition or with its pages. *End to end* measures a partition of 100,000 tasks.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Measure a small and a large partition for each page size, and the SDK with pandas on the small one."""
    figures: list[Figure] = []
    with Service() as service:
        for size, small, large, times in [(50_000, 300, 1_200, 1)] if quick else CASES:
            service.set(size=size)

            def run(name: str, tasks: int, size: int = size):
                return lambda: fresh(__file__, name, url=service.url, tasks=tasks, size=size)

            found = rounds(times, {"small": run("ours", small), "large": run("ours", large), "sdk": run("sdk", small)})
            peaks = {name: tuple(each.peak for each in measured) for name, measured in found.items()}
            of = f"tasks of {size // 1000} KB"
            bound = (Goal("at most", 1.2), Goal("at most", 400, "value"))
            figures += [
                Figure(f"{small:,} {of}", "MB", peaks["small"], "SDK", peaks["sdk"]),
                Figure(f"{large:,} {of}", "MB", peaks["large"], f"{small:,} tasks", peaks["small"], bound),
            ]
    return Section("Memory", MEANING, tuple(figures))


if __name__ == "__main__":
    main(measure, BODIES)
