"""`make demo`: scrape two days of the catalogue with Dagster and show the results."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree

from scrapedo_dagster.api import RetryPolicy, ScrapeDoAsyncAPIClient, ScrapeDoError
from scrapedo_dagster.demo.definitions import DATASET, DAYS
from scrapedo_dagster.demo.services import LEDGER_URL, DemoError, Services, demo_services, program
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.storage.summary import Summary, summarize
from scrapedo_dagster.engine.storage.tables import ParquetStore

_POLL_SECONDS = 0.3
_MAX_LOG_LINES = 30
_JOBS_CONTINUE = (
    "Submitted jobs continue at Scrape.do: run the same command to collect their results. Nothing is paid twice."
)

console = Console()


def main() -> int:
    """Run the demo and return the exit status: 0 if both days were scraped."""
    signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
    started = time.monotonic()
    try:
        with demo_services() as services:
            console.print(f"Scraping [bold]{len(DAYS)} daily partitions[/] with Dagster and {services.description}.\n")
            seconds = _scrape(services)
        _show_summary(seconds, services.data)
        _show_files(services.data)
        _show_pandas(services.data)
    except DemoError as error:
        console.print(f"[red]{error}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. All started processes have ended.")
        if "TARGETS" in os.environ:
            console.print(_JOBS_CONTINUE)
        return 130
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. See it in the Dagster UI: [bold]make dev[/]")
    return 0


def raise_keyboard_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _scrape(services: Services) -> dict[str, float]:
    """Launch one Dagster run for each day and show its progress. Returns the seconds of each run."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[phase]}"))
    seconds = {}
    with (
        ScrapeDoAsyncAPIClient(
            services.token,
            base_url=services.base_url,
            retry=RetryPolicy(attempts=1),
        ) as client,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
    ):
        bars = {day: progress.add_task(f"{DATASET} {day}", total=None, start=False, phase="waiting") for day in DAYS}
        for day, bar in bars.items():
            progress.start_task(bar)
            began = time.monotonic()
            ref = PartitionRef(account_fingerprint(services.token), DATASET, day)
            _launch(services, day, _ProgressOfDay(progress, bar, client, ref))
            seconds[day] = time.monotonic() - began
            progress.stop_task(bar)
    return seconds


def _launch(services: Services, day: str, progress: _ProgressOfDay) -> None:
    log = Path("demo_data") / f"{day}.log"
    log.parent.mkdir(exist_ok=True)
    arguments = ("dg", "launch", "--assets", f"group:{DATASET}", "--partition", day)
    progress.show("starting Dagster")
    with program(*arguments, environment=services.environment, log=log) as process:
        while process.poll() is None:
            progress.update()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        if process.returncode:
            raise DemoError(f"The run of {day} failed. Log: {log}\n\n{_errors_in(log)}")
    progress.finish()


def _errors_in(log: Path) -> str:
    """Return the last exceptions of a log, or its last lines if it has none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    reasons = [line for line in lines if re.match(r"(scrapedo_dagster|dagster)\.\S*(Error|Failure): |Failure: ", line)]
    ours = [line for line in reasons if not line.startswith("dagster._core.errors.DagsterExecution")]
    return "\n".join(list(dict.fromkeys(ours))[-2:] or lines[-_MAX_LOG_LINES:])


class _ProgressOfDay:
    """Progress bar of one day, from the statuses of its tasks at Scrape.do."""

    def __init__(self, progress: Progress, bar: TaskID, client: ScrapeDoAsyncAPIClient, ref: PartitionRef) -> None:
        self._progress = progress
        self._bar = bar
        self._client = client
        self._ref = ref
        self._ledger = Ledger(LEDGER_URL)
        self._before = self._ledger.generations.newest(ref)

    def show(self, phase: str) -> None:
        self._progress.update(self._bar, phase=phase)

    def update(self) -> None:
        submissions = self._submissions()
        if not submissions:
            return
        try:
            jobs = [self._client.get_job(each.job_id) for each in submissions if each.job_id]
        except ScrapeDoError:
            return  # only the display is late; the run has its own client
        ended = sum(task.is_terminal for job in jobs for task in job.tasks)
        targets = sum(len(each.targets) for each in submissions)
        self._progress.update(self._bar, total=targets, completed=ended)
        self.show("writing Parquet" if ended == targets else "scraping")

    def finish(self) -> None:
        targets = sum(len(each.targets) for each in self._submissions())
        self._progress.update(self._bar, total=targets, completed=targets)
        self.show("done")

    def _submissions(self) -> list[SubmissionWithTargets]:
        newest = self._ledger.generations.newest(self._ref)
        return self._ledger.submissions.with_targets(self._ref, newest) if newest > self._before else []


def _show_summary(seconds: dict[str, float], data: str) -> None:
    tasks = ParquetStore(data).table([DATASET, "tasks"])
    summaries = {day: summarize(tasks, day) for day in DAYS}
    table = Table(title="\nResults", title_justify="left")
    table.add_column("partition")
    for heading in ("targets", "succeeded", "failed", "bytes", "credits", "seconds"):
        table.add_column(heading, justify="right")
    for day, summary in summaries.items():
        figures = (summary.targets, summary.succeeded, summary.failures, summary.bytes, summary.credits)
        table.add_row(day, *(f"{figure:,}" for figure in figures), f"{seconds[day]:.1f}")
    console.print(table)
    _show_outcomes(summaries)


def _show_outcomes(summaries: dict[str, Summary]) -> None:
    table = Table(title="\nOutcomes of the targets", title_justify="left")
    for heading in ("partition", "task", "HTTP status"):
        table.add_column(heading)
    table.add_column("targets", justify="right")
    table.add_column("reason")
    for day, summary in summaries.items():
        for (status, code), count in summary.statuses.items():
            reasons = {
                each.error_message for each in summary.failed if (each.status, each.status_code) == (status, code)
            }
            table.add_row(day, status, str(code or ""), str(count), "; ".join(sorted(filter(None, reasons))))
    console.print(table)


def _show_files(data: str) -> None:
    tree = Tree(f"\n[bold]{data}[/]")
    branches = {Path(data): tree}
    for path in sorted(Path(data).rglob("*")):
        size = f" [dim]{path.stat().st_size:,} bytes[/]" if path.is_file() else ""
        branches[path] = branches[path.parent].add(f"{path.name}{size}")
    console.print(tree)


def _show_pandas(data: str) -> None:
    lines = (
        "import pandas as pd",
        f'tasks = pd.read_parquet("{data}/{DATASET}/tasks")',
        'tasks.groupby(["partition", "content_type"], observed=True)["content_length"].agg(["count", "sum"])',
    )
    console.print("\n[bold]Read it with pandas[/]")
    for line in lines:
        console.print(f">>> {line}", highlight=False)
    tasks = pd.read_parquet(f"{data}/{DATASET}/tasks")
    result = tasks.groupby(["partition", "content_type"], observed=True)["content_length"].agg(["count", "sum"])
    console.print(str(result), highlight=False)


if __name__ == "__main__":
    sys.exit(main())
