"""Run all benchmarks. `python benchmarks/run.py [--quick] [--save]`; saving writes docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness import Curve, Figure, Goal, Section, heading, machine, median_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "images" / "performance.png"
INTRODUCTION = Path(__file__).parent / "introduction.md"
BENCHMARKS = (
    *("fetching", "page_sizes", "memory", "parquet", "submitting"),
    *("sensor_ticks", "end_to_end", "imports", "backfill"),
)


def page(sections: Sequence[Section], introduction: str) -> str:
    """Return the page of the documentation."""
    goals = [(figure, goal) for section in sections for figure in section.figures for goal in figure.goals]
    missed = [_missed(figure, goal) for figure, goal in goals if not goal.reached(figure)]
    reached = f"{len(goals) - len(missed)} of {len(goals)} goals are reached"
    parts = [
        introduction.rstrip(),
        f"Measured on {machine()}. {reached}{'. Missed:' if missed else '.'}",
        *(["\n".join(missed)] if missed else []),
        f"![Tasks per second by concurrent requests, and cost by partition size](images/{CHART.name})",
    ]
    for section in sections:
        parts += [f"## {section.title}", section.meaning, *(table.markdown() for table in section.all_tables)]
    return "\n\n".join(parts) + "\n"


def _missed(figure: Figure, goal: Goal) -> str:
    if goal.of == "value":
        return f"- {figure.name}: {median_of(figure.values)} {figure.unit}, should be {goal.word} {goal.limit:g}."
    found = f"{median_of(figure.ratios)} times {figure.peer}"
    return f"- {figure.name}: {found}, should be {goal.word} {goal.limit:g} times."


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draw the chart: medians as lines, ranges over the rounds as bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    from statistics import median

    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys(curve.panel for curve in curves))
    figure, all_axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4.2), layout="constrained", squeeze=False)
    for panel, axes in zip(panels, all_axes[0], strict=True):
        highest = max(max(values) for curve in curves if curve.panel == panel for _, values in curve.points)
        for curve in curves:
            if curve.panel == panel:
                xs = [x for x, _ in curve.points]
                middle = [median(values) for _, values in curve.points]
                below = [median(values) - min(values) for _, values in curve.points]
                above = [max(values) - median(values) for _, values in curve.points]
                axes.errorbar(xs, middle, (below, above), marker="o", markersize=4, capsize=2, label=curve.label)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y, xscale="log", ylim=(0, 1.4 * highest))
        axes.set_xticks(ticks := sorted({x for curve in curves if curve.panel == panel for x, _ in curve.points}))
        axes.set_xticks([], minor=True)
        axes.set_xticklabels([f"{tick:,}" for tick in ticks])
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Run all benchmarks, print the results, and save them with --save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds: only checks that it works")
    parser.add_argument("--save", action="store_true", help=f"write {PAGE.relative_to(ROOT)} and its chart")
    arguments = parser.parse_args()
    if arguments.quick and arguments.save:
        sys.exit("--quick cannot be combined with --save")
    print(heading(arguments.quick), flush=True)  # noqa: T201
    sections = []
    for name in BENCHMARKS:
        began = time.monotonic()
        sections.append(importlib.import_module(name).measure(arguments.quick))
        print(f"\n{sections[-1]}\n({time.monotonic() - began:.0f} s)", flush=True)  # noqa: T201
    if arguments.save:
        PAGE.write_text(page(sections, INTRODUCTION.read_text(encoding="utf-8")), encoding="utf-8")
        draw([curve for section in sections for curve in section.curves], CHART)
        print(f"\nWrote {PAGE.relative_to(ROOT)} and {CHART.relative_to(ROOT)}.")  # noqa: T201


if __name__ == "__main__":
    main()
