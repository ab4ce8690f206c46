"""Small pages, large pages and base64, to Parquet without latency. `python benchmarks/sizes.py [--quick]`."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness import Figure, Measured, Section, Target, Worker, main, rounds
from service import Service
from variants import BODIES

# Name, bytes, base64, tasks, and the peers with the ratio to each that is to be reached, or none.
CASES: tuple[tuple[str, int, bool, int, dict[str, float | None]], ...] = (
    ("1 KB", 1_000, False, 500, {"sdk": None}),
    ("50 KB", 50_000, False, 1_000, {"sdk": 1.5, "same_work": 0.85}),
    ("50 KB in base64", 50_000, True, 500, {"same_work": None}),
    ("500 KB", 500_000, False, 200, {"sdk": 3.0, "same_work": 0.85}),
)
NAMES = {"sdk": "SDK", "same_work": "same work"}
MEANING = """
The same variants without latency, 64 at once, each time in a fresh process, as a step of a run is one: what a task
costs the machine, by the size of its page. Large pages are bound by compressing: `contents` has each page as bytes and,
where it is text, as text, both in zstd; the DataFrame of the SDK's results has the bytes alone, in snappy.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Each size, beside the SDK with pandas and beside the same work by hand."""
    figures: list[Figure] = []
    with Service() as service:
        for case, size, is_base64, most, peers in CASES[1:2] if quick else CASES:
            service.set(size=size, base64=is_base64)
            tasks = most // 5 if quick else most
            order = {"url": service.url, "tasks": tasks, "size": size}
            found = rounds(1 if quick else 5, {name: partial(_loaded, name, **order) for name in ("ours", *peers)})
            rates = {name: tuple(tasks / each.wall for each in measured) for name, measured in found.items()}
            for name, stated in peers.items():
                targets = () if stated is None else (Target("at least", stated),)
                figures.append(Figure(case, "tasks/s", rates["ours"], NAMES[name], rates[name], targets))
    return Section("Sizes", MEANING, tuple(figures))


def _loaded(name: str, **order: Any) -> Measured:
    """A body in a fresh process that has loaded its libraries."""
    with Worker(__file__, name) as worker:
        worker.run(**{**order, "tasks": 5})
        return worker.run(**order)


if __name__ == "__main__":
    main(measure, BODIES)
