"""Small pages, large pages and base64 to Parquet, without latency. `python benchmarks/page_sizes.py [--quick]`."""

from __future__ import annotations

from functools import partial
from typing import Any

from collect_variants import BODIES
from harness import Figure, Goal, Measured, Section, Worker, main, rounds
from local_service import Service

# Name, bytes, base64, tasks, and the peers with the goal for the ratio to each, if any.
CASES: tuple[tuple[str, int, bool, int, dict[str, float | None]], ...] = (
    ("1 KB", 1_000, False, 500, {"sdk": None}),
    ("50 KB", 50_000, False, 1_000, {"sdk": 1.5, "same_work": 0.85}),
    ("50 KB in base64", 50_000, True, 500, {"same_work": None}),
    ("500 KB", 500_000, False, 200, {"sdk": 3.0, "same_work": 0.85}),
)
NAMES = {"sdk": "SDK", "same_work": "same work"}
MEANING = """
The same variants without latency, with 64 concurrent requests, each run in a new process, as steps are: the cost of a
task by the size of its page. Large pages are limited by compression: `contents` has each page as bytes and, if it is
text, as text, both compressed with zstd. The DataFrame of the SDK has only the bytes, with snappy.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Measure each size, compared with the SDK and pandas, and with the hand-written loop."""
    figures: list[Figure] = []
    with Service() as service:
        for case, size, is_base64, most, peers in CASES[1:2] if quick else CASES:
            service.set(size=size, base64=is_base64)
            tasks = most // 5 if quick else most
            order = {"url": service.url, "tasks": tasks, "size": size}
            found = rounds(1 if quick else 5, {name: partial(_loaded, name, **order) for name in ("ours", *peers)})
            rates = {name: tuple(tasks / each.wall for each in measured) for name, measured in found.items()}
            for name, limit in peers.items():
                goals = () if limit is None else (Goal("at least", limit),)
                figures.append(Figure(case, "tasks/s", rates["ours"], NAMES[name], rates[name], goals))
    return Section("Sizes", MEANING, tuple(figures))


def _loaded(name: str, **order: Any) -> Measured:
    """Run a body in a new process that has loaded its libraries."""
    with Worker(__file__, name) as worker:
        worker.run(**{**order, "tasks": 5})
        return worker.run(**order)


if __name__ == "__main__":
    main(measure, BODIES)
