"""Import time of `scrapedo_dagster` and of `dagster`. `python benchmarks/imports.py [--quick]`."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness import Figure, Goal, Meter, Section, fresh, main, rounds

MEANING = """
What each process that loads a code location spends on imports: `import dagster`, compared with the main names of this
package, which import Dagster too; each in a separate process. pyarrow, pandas, aiohttp and SQLAlchemy are imported when
a step, a tick or a client needs them.
""".strip().replace("\n", " ")


def dagster(meter: Meter) -> dict[str, Any]:
    """Import Dagster."""
    with meter:
        import dagster  # noqa: F401
    return {}


def ours(meter: Meter) -> dict[str, Any]:
    """Import the names that a definitions file needs."""
    with meter:
        from scrapedo_dagster import (  # noqa: F401
            ScrapeDoParquetIOManager,
            ScrapeDoResource,
            build_scrape_do_sensor,
            scrape_do_assets,
        )
    return {}


def measure(quick: bool) -> Section:
    """Measure the differences of wall time and CPU time."""
    if not quick:
        fresh(__file__, "ours")  # fills the file cache
    found = rounds(1 if quick else 5, {name: partial(fresh, __file__, name) for name in ("dagster", "ours")})
    wall = {name: tuple(each.wall for each in measured) for name, measured in found.items()}
    cpu = {name: tuple(each.cpu for each in measured) for name, measured in found.items()}
    over = [tuple(a - b for a, b in zip(each["ours"], each["dagster"], strict=True)) for each in (wall, cpu)]
    memory = [tuple(each.peak for each in found[name]) for name in ("ours", "dagster")]
    return Section(
        "Import",
        MEANING,
        (
            Figure("import scrapedo_dagster", "s", wall["ours"], "import dagster", wall["dagster"]),
            Figure("over import dagster", "s", over[0], goals=(Goal("at most", 0.25, "value"),)),
            Figure("over import dagster, CPU time", "s", over[1]),
            Figure("memory", "MB", memory[0], "import dagster", memory[1]),
        ),
    )


if __name__ == "__main__":
    main(measure, {"dagster": dagster, "ours": ours})
