"""Shared code of the benchmarks: figures with peers and goals, measuring in separate processes, tables.

A benchmark is a module with a function `measure(quick) -> Section` and with *bodies*: functions that do the measured
work in a separate process. `main` makes it a script:

```python
def write(meter: Meter, *, rows: int) -> dict[str, object]:  # runs in a separate process
    import pyarrow  # preparation, not measured

    with meter:
        ...  # measured: wall time, CPU time, and peak memory of the process
    return {"rows": rows}


def measure(quick: bool) -> Section:
    times = [fresh(__file__, "write", rows=1000) for _ in range(5)]
    return Section("Writing", "What is measured.", (Figure("write", "s", tuple(each.wall for each in times)),))


if __name__ == "__main__":
    main(measure, {"write": write})
```
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, cast

from typing_extensions import Self

PACKAGES = ("dagster", "httpx", "aiohttp", "pydantic", "pyarrow", "pandas", "sqlalchemy", "scrape-do-python")


# Figures


@dataclass(frozen=True)
class Goal:
    """A limit for a figure: for its median, or for the median of its ratios to its peer."""

    word: Literal["at least", "at most"]
    limit: float
    of: Literal["ratio", "value"] = "ratio"

    def reached(self, figure: Figure) -> bool:
        """Return whether the figure reaches the goal."""
        found = statistics.median(figure.ratios if self.of == "ratio" else figure.values)
        return found >= self.limit if self.word == "at least" else found <= self.limit

    def __str__(self) -> str:
        return f"{self.of if self.of == 'ratio' else 'median'} {self.word} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """A measured figure: its value in each round, with the values of a peer in the same rounds if it has one.

    `peer_values` is a single value if the peer was measured only once or is computed.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    peer: str | None = None
    peer_values: tuple[float, ...] = ()
    goals: tuple[Goal, ...] = ()

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ratio to the peer in each round."""
        peers = self.peer_values * len(self.values) if len(self.peer_values) == 1 else self.peer_values
        return tuple(value / peer for value, peer in zip(self.values, peers, strict=True)) if peers else ()

    @property
    def verdict(self) -> str:
        """State whether each goal is reached."""
        return "; ".join(f"{each}: {'reached' if each.reached(self) else 'NOT reached'}" for each in self.goals)


@dataclass(frozen=True)
class Table:
    """A table of text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __str__(self) -> str:
        """Format for a terminal."""
        return "\n".join([self.caption, *self._lines("  ")] if self.caption else self._lines("  "))

    def markdown(self) -> str:
        """Format as Markdown."""
        head, *rows = ("| " + line + " |" for line in self._lines(" | "))
        rule = "|" + "|".join("-" * (width + 2) for width in self._widths) + "|"
        return "\n".join([*([self.caption, ""] if self.caption else []), head, rule, *rows])

    @property
    def _widths(self) -> list[int]:
        return [max(len(cell) for cell in column) for column in zip(self.header, *self.rows, strict=True)]

    def _lines(self, between: str) -> list[str]:
        # Numbers are aligned right, except in the first column.
        return [
            between.join(
                cell.rjust(width) if number and _is_number(cell) else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, self._widths, strict=True))
            )
            for row in (self.header, *self.rows)
        ]


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit()


@dataclass(frozen=True)
class Panel:
    """Axes of the chart. The x axis is logarithmic."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class Curve:
    """A line of the chart. Each point is x with the values of each round."""

    panel: Panel
    label: str
    points: tuple[tuple[float, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Section:
    """Results of one benchmark. `meaning` explains in Markdown what is measured."""

    title: str
    meaning: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()

    @property
    def all_tables(self) -> list[Table]:
        """The table of the figures, and the other tables."""
        return ([table_of(self.figures)] if self.figures else []) + list(self.tables)

    def __str__(self) -> str:
        return "\n\n".join([f"== {self.title} ==\n{self.meaning}", *map(str, self.all_tables)])


def table_of(figures: Iterable[Figure]) -> Table:
    """Return a table of medians, ranges over the rounds, ratios to peers, and goals."""
    header = ("", "median", "min - max", "unit", "rounds", "ratio", "min - max", "to", "goal")
    return Table(header, tuple(_row(each) for each in figures))


def _row(figure: Figure) -> tuple[str, ...]:
    ratios = (median_of(figure.ratios), range_of(figure.ratios)) if figure.ratios else ("", "")
    return (
        figure.name,
        median_of(figure.values),
        range_of(figure.values),
        figure.unit,
        str(len(figure.values)),
        *ratios,
        figure.peer or "",
        figure.verdict,
    )


def median_of(values: Sequence[float]) -> str:
    """Format the median."""
    return number(statistics.median(values))


def range_of(values: Sequence[float]) -> str:
    """Format minimum and maximum."""
    return f"{number(min(values))} - {number(max(values))}" if len(values) > 1 else ""


def number(value: float) -> str:
    """Format with three significant digits, or as a whole number from 100."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# Measuring


@dataclass(frozen=True)
class Measured:
    """Measurement of a body: seconds of wall time, seconds of CPU time (user and system), megabytes (10**6 bytes).

    `peak` is the peak memory of the process up to the end of the measured block, including imports; `before` up to its
    start.
    """

    wall: float
    cpu: float
    peak: float
    before: float
    result: dict[str, Any]


@dataclass
class Meter:
    """Measures its `with` block. Use it once in a body."""

    wall: float = 0.0
    cpu: float = 0.0
    before: float = 0.0
    peak: float = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self.before = peak_megabytes()
        self.wall, self.cpu = time.perf_counter(), _cpu()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, _cpu() - self.cpu
        self.peak = peak_megabytes()


Body = Callable[..., dict[str, Any]]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux `getrusage` includes the memory of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


@dataclass
class Worker:
    """A process that can run one body many times. To measure peak memory, use a new process for each run."""

    script: str
    body: str
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, str(Path(self.script).resolve()), "--body", self.body]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603

    def run(self, **arguments: Any) -> Measured:
        """Run the body once, with arguments that can be JSON."""
        stdin, stdout = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        stdin.write(json.dumps(arguments) + "\n")
        stdin.flush()
        reply = stdout.readline()
        if not reply:
            sys.exit(f"{Path(self.script).name}: {self.body} with {arguments} failed, see above")
        return Measured(**json.loads(reply))

    def close(self) -> None:
        """End the process."""
        cast("IO[str]", self.process.stdin).close()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def fresh(script: str, body: str, **arguments: Any) -> Measured:
    """Run a body once in a new process."""
    with Worker(script, body) as worker:
        return worker.run(**arguments)


def rounds(amount: int, variants: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """Run all variants in `amount` interleaved rounds, so that disturbances affect all of them."""
    found: dict[str, list[Measured]] = {name: [] for name in variants}
    for _ in range(amount):
        for name, run in variants.items():
            found[name].append(run())
    return found


def main(measure: Callable[[bool], Section], bodies: Mapping[str, Body]) -> None:
    """Run a benchmark as a script: print its results, or be the process of one of its bodies."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds: only checks that it works")
    parser.add_argument("--body", choices=list(bodies), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.body is None:
        print(f"{heading(arguments.quick)}\n\n{measure(arguments.quick)}")  # noqa: T201
        return
    replies, sys.stdout = sys.stdout, sys.stderr  # output of the body must not mix with replies
    for line in sys.stdin:
        meter = Meter()
        result = bodies[arguments.body](meter, **json.loads(line))
        measured = {"wall": meter.wall, "cpu": meter.cpu, "peak": meter.peak, "before": meter.before, "result": result}
        print(json.dumps(measured), file=replies, flush=True)


def heading(quick: bool) -> str:
    """Return the first lines of the output."""
    return machine() + ("\nQuick: too few tasks and rounds for valid figures." if quick else "")


def machine() -> str:
    """Return the cores and versions of this machine."""
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; {packages}"
