"""Does memory grow with the partition? Peaks of fresh processes. `python benchmarks/memory.py [--quick]`."""

from __future__ import annotations

from harness import Figure, Section, Target, fresh, main, rounds
from service import Service
from variants import BODIES

# Bytes of a page, tasks of the small and of the large partition, rounds.
CASES = ((50_000, 1_000, 10_000, 1), (500_000, 1_000, 3_000, 1))
MEANING = """
The most memory that a fresh process holds while it collects, with what Python and the libraries take (about half of
it). It must not grow with the partition, nor with its pages. A partition of 100,000 tasks is measured in *End to end*.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """A small and a large partition of pages of each size, and the SDK with pandas on the small one."""
    figures: list[Figure] = []
    with Service() as service:
        for size, small, large, times in [(50_000, 300, 1_200, 1)] if quick else CASES:
            service.set(size=size)

            def run(name: str, tasks: int, size: int = size):
                return lambda: fresh(__file__, name, url=service.url, tasks=tasks, size=size)

            found = rounds(times, {"small": run("ours", small), "large": run("ours", large), "sdk": run("sdk", small)})
            peaks = {name: tuple(each.peak for each in all_of_them) for name, all_of_them in found.items()}
            of = f"tasks of {size // 1000} KB"
            bound = (Target("at most", 1.2), Target("at most", 400, "value"))
            figures += [
                Figure(f"{small:,} {of}", "MB", peaks["small"], "SDK", peaks["sdk"]),
                Figure(f"{large:,} {of}", "MB", peaks["large"], f"{small:,} tasks", peaks["small"], bound),
            ]
    return Section("Memory", MEANING, tuple(figures))


if __name__ == "__main__":
    main(measure, BODIES)
