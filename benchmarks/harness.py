"""What the benchmarks share: figures with their peers and targets, measuring in fresh processes, and tables.

A benchmark is a module with a function `measure(quick) -> Section`, and with *bodies*: functions that do the measured
work in a process of their own. `main` makes a script of it:

```python
def write(meter: Meter, *, rows: int) -> dict[str, object]:  # runs in the fresh process
    import pyarrow  # preparation, which is not measured

    with meter:
        ...  # what is measured: wall time, CPU time, and the peak of memory until here
    return {"rows": rows}


def measure(quick: bool) -> Section:
    times = [fresh(__file__, "write", rows=1000) for _ in range(5)]
    return Section("Writing", "What it means.", (Figure("write", "s", tuple(each.wall for each in times)),))


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
class Target:
    """What a figure should reach: its median, or the median of its ratios to its peer."""

    word: Literal["at least", "at most"]
    limit: float
    of: Literal["ratio", "value"] = "ratio"

    def reached(self, figure: Figure) -> bool:
        """Whether it does."""
        found = statistics.median(figure.ratios if self.of == "ratio" else figure.values)
        return found >= self.limit if self.word == "at least" else found <= self.limit

    def __str__(self) -> str:
        return f"{self.of if self.of == 'ratio' else 'median'} {self.word} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """One measured figure: a value of each round and, where it has a peer, its ratio to the peer's of the same round.

    Where a peer was measured once for all rounds, or is a number of arithmetic, its values may be one.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    peer: str | None = None
    peer_values: tuple[float, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def ratios(self) -> tuple[float, ...]:
        """Of each round."""
        peers = self.peer_values * len(self.values) if len(self.peer_values) == 1 else self.peer_values
        return tuple(value / peer for value, peer in zip(self.values, peers, strict=True)) if peers else ()

    @property
    def verdict(self) -> str:
        """Each target, reached or not."""
        return "; ".join(f"{each}: {'reached' if each.reached(self) else 'NOT reached'}" for each in self.targets)


@dataclass(frozen=True)
class Table:
    """Text in cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __str__(self) -> str:
        """Aligned, for a terminal."""
        return "\n".join([self.caption, *self._lines("  ")] if self.caption else self._lines("  "))

    def markdown(self) -> str:
        """The same for a page."""
        head, *rows = ("| " + line + " |" for line in self._lines(" | "))
        rule = "|" + "|".join("-" * (width + 2) for width in self._widths) + "|"
        return "\n".join([*([self.caption, ""] if self.caption else []), head, rule, *rows])

    @property
    def _widths(self) -> list[int]:
        return [max(len(cell) for cell in column) for column in zip(self.header, *self.rows, strict=True)]

    def _lines(self, between: str) -> list[str]:
        # The first column is text, the others are mostly numbers.
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
    """Where lines of the chart go. The x axis is logarithmic."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class Curve:
    """A line of the chart: in which panel, its label, and its points as x with the values of each round."""

    panel: Panel
    label: str
    points: tuple[tuple[float, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Section:
    """What one benchmark found. `meaning` says to a reader what it measures and what it means, in Markdown."""

    title: str
    meaning: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()

    @property
    def all_tables(self) -> list[Table]:
        """The figures as a table, and the others."""
        return ([table_of(self.figures)] if self.figures else []) + list(self.tables)

    def __str__(self) -> str:
        return "\n\n".join([f"== {self.title} ==\n{self.meaning}", *map(str, self.all_tables)])


def table_of(figures: Iterable[Figure]) -> Table:
    """Medians, their range over the rounds, ratios to peers, and targets."""
    header = ("", "median", "min - max", "unit", "rounds", "ratio", "min - max", "to", "target")
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
    """The median, to three digits."""
    return number(statistics.median(values))


def range_of(values: Sequence[float]) -> str:
    """The least and the most."""
    return f"{number(min(values))} - {number(max(values))}" if len(values) > 1 else ""


def number(value: float) -> str:
    """Three digits, or all digits of a larger whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# Measuring


@dataclass(frozen=True)
class Measured:
    """Of a body: seconds of wall time, seconds of CPU (user and system) of its process, and megabytes (10**6 bytes).

    `peak` is that of the whole process up to the end, what it imported included; `before` is that up to the start.
    """

    wall: float
    cpu: float
    peak: float
    before: float
    result: dict[str, Any]


@dataclass
class Meter:
    """A `with` block is what is measured; once in a body."""

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
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says here begins with the memory of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


@dataclass
class Worker:
    """A process for one body, which can be run in it many times. For a peak of memory take a new one each time."""

    script: str
    body: str
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, str(Path(self.script).resolve()), "--body", self.body]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603

    def run(self, **arguments: Any) -> Measured:
        """Run the body once, with arguments that JSON knows."""
        asked, told = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        asked.write(json.dumps(arguments) + "\n")
        asked.flush()
        answer = told.readline()
        if not answer:
            sys.exit(f"{Path(self.script).name}: {self.body} with {arguments} has failed, see above")
        return Measured(**json.loads(answer))

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
    """Run a body of a benchmark once in a fresh process."""
    with Worker(script, body) as worker:
        return worker.run(**arguments)


def rounds(amount: int, variants: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """Run all variants in turn, so many times: what disturbs a round disturbs all of them."""
    found: dict[str, list[Measured]] = {name: [] for name in variants}
    for _ in range(amount):
        for name, run in variants.items():
            found[name].append(run())
    return found


def main(measure: Callable[[bool], Section], bodies: Mapping[str, Body]) -> None:
    """A benchmark as a script: prints what it found, or is the process of one of its bodies."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds: whether it works, not how fast")
    parser.add_argument("--body", choices=list(bodies), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.body is None:
        print(f"{heading(arguments.quick)}\n\n{measure(arguments.quick)}")  # noqa: T201
        return
    told, sys.stdout = sys.stdout, sys.stderr  # what the body prints is no answer
    for line in sys.stdin:
        meter = Meter()
        result = bodies[arguments.body](meter, **json.loads(line))
        measured = {"wall": meter.wall, "cpu": meter.cpu, "peak": meter.peak, "before": meter.before, "result": result}
        print(json.dumps(measured), file=told, flush=True)


def heading(quick: bool) -> str:
    """What stands above all figures."""
    return machine() + (
        "\nQuick: too few tasks and rounds to tell how fast it is, or what is reached." if quick else ""
    )


def machine() -> str:
    """Cores and versions."""
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; {packages}"
