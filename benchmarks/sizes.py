"""Small pages, large pages and base64, to Parquet without latency. `python benchmarks/sizes.py [--quick]`."""

from __future__ import annotations

from contextlib import ExitStack

from harness import Figure, Section, Target, Worker, main, rounds
from service import Service
from variants import BODIES

# Name, bytes, base64, tasks of ours and of the same work, tasks of the SDK, ratio to reach.
CASES = (
    ("1 KB", 1_000, False, 2_000, 1_000, None),
    ("50 KB", 50_000, False, 1_500, 700, 1.5),
    ("50 KB in base64", 50_000, True, 1_500, 700, None),
    ("500 KB", 500_000, False, 300, 150, 3.0),
)
MEANING = """
The same variants as above without latency, 64 at once: what a task costs the machine, by the size of its page. Large
pages are bound by compressing: `contents` has each page as bytes and, where it is text, as text, both in zstd.
""".strip().replace("\n", " ")


def measure(quick: bool) -> Section:
    """Each size, beside the SDK with pandas and beside the same work by hand."""
    figures: list[Figure] = []
    with ExitStack() as stack:
        service = stack.enter_context(Service())
        workers = {name: stack.enter_context(Worker(__file__, name)) for name in ("ours", "same_work", "sdk")}
        for case, size, is_base64, tasks, sdk_tasks, stated in CASES:
            service.set(size=size, base64=is_base64)
            share = 5 if quick else 1
            amounts = {"ours": tasks // share, "same_work": tasks // share, "sdk": sdk_tasks // share}

            def run(name: str, tasks: int, size: int = size):
                return lambda: workers[name].run(url=service.url, tasks=tasks, size=size)

            variants = {name: run(name, amount) for name, amount in amounts.items()}
            if not quick:
                for warm in variants.values():
                    warm()
            found = rounds(1 if quick else 5, variants)
            rates = {name: tuple(amounts[name] / each.wall for each in found[name]) for name in variants}
            against_sdk = () if stated is None else (Target("at least", stated),)
            against_same = () if stated is None else (Target("at least", 0.85),)
            figures += [
                Figure(case, "tasks/s", rates["ours"], "SDK", rates["sdk"], against_sdk),
                Figure(case, "tasks/s", rates["ours"], "same work", rates["same_work"], against_same),
            ]
    return Section("Sizes", MEANING, tuple(figures))


if __name__ == "__main__":
    main(measure, BODIES)
