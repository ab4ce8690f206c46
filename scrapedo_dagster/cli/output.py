"""Output of the `jobs` commands: submissions as JSON Lines, as a table, or as a line with a message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets

_COLUMNS = ("id", "dataset", "partition", "generation", "batch", "state", "targets", "job_id", "reason")
_MAX_WIDTH = 60


def submission_as_dict(submission: SubmissionWithTargets) -> dict[str, Any]:
    """Return a submission for `--json`. Scripts depend on these keys."""
    return {
        "id": submission.id,
        "account": submission.ref.account,
        "dataset": submission.ref.dataset,
        "partition": submission.ref.partition,
        "generation": submission.generation,
        "batch": submission.batch,
        "attempt": submission.attempt,
        "state": submission.state.value,
        "targets": len(submission.targets),
        "rejected": sum(entry.rejected is not None for entry in submission.entries),
        "succeeded": submission.succeeded,
        "credits": submission.credits,
        "job_id": submission.job_id,
        "run_id": submission.run_id,
        "reason": submission.reason,
        "planned_at": _time(submission.planned_at),
        "claimed_at": _time(submission.claimed_at),
        "submitted_at": _time(submission.submitted_at),
        "finished_at": _time(submission.finished_at),
        "collected_at": _time(submission.collected_at),
        "expires_at": _time(submission.expires_at),
    }


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON."""
    click.echo(json.dumps(value))


def print_result(submission: SubmissionWithTargets, result: str, message: str, as_json: bool) -> None:
    """Print what a command did with a submission: `result` in one word, for scripts, and `message`."""
    if as_json:
        print_json({**submission_as_dict(submission), "found": result, "message": message})
    else:
        click.echo(f"{submission.id}  {submission.ref}, batch {submission.batch}: {message}")


def print_table(submissions: Sequence[SubmissionWithTargets]) -> None:
    """Print submissions as a table."""
    rows = [submission_as_dict(each) for each in submissions]
    cells = [_COLUMNS, *(tuple(_cell(row[column]) for column in _COLUMNS) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="seconds")


def _cell(value: Any) -> str:
    text = "-" if value is None else " ".join(str(value).split())
    return text if len(text) <= _MAX_WIDTH else f"{text[: _MAX_WIDTH - 3]}..."
