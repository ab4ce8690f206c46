"""What the Dagster UI shows of a dataset: standard keys where Dagster has them, ours under `scrapedo/`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
    from scrapedo_dagster.engine.storage.summary import Summary
    from scrapedo_dagster.engine.storage.tables import CompleteGeneration, ParquetTable
    from scrapedo_dagster.engine.submission.planner import Generation

Metadata = dict[str, Any]


def of_jobs(generation: Generation, submissions: Sequence[SubmissionWithTargets]) -> Metadata:
    """Of a materialization of `[name, "jobs"]`."""
    # What is submitted again, after a failure or after it was canceled, is in several batches.
    entries = {entry.position: entry for submission in submissions for entry in submission.entries}.values()
    rows = [
        (
            each.batch,
            each.job_id,
            len(each.targets),
            each.state.value,
            each.submitted_at and f"{each.submitted_at:%Y-%m-%d %H:%M:%S} UTC",
        )
        for each in submissions
    ]
    return {
        "scrapedo/generation": generation.number,
        "scrapedo/continued": generation.continued,
        "scrapedo/targets": len(entries),
        "scrapedo/submitted": len({url for each in submissions for url in each.targets}),
        "scrapedo/rejected": sum(entry.rejected is not None for entry in entries),
        "scrapedo/jobs": sum(each.job_id is not None for each in submissions),
        "scrapedo/job_ids": dg.MetadataValue.md(markdown(("batch", "job", "targets", "state", "submitted at"), rows)),
    }


def of_tasks(table: ParquetTable, partition: str | None, summary: Summary, submitted_by: str | None) -> Metadata:
    """Of a materialization of `[name, "tasks"]`. `submitted_by` is a run."""
    statuses = [(status, code, count) for (status, code), count in summary.statuses.items()]
    failed = [(row["url"], row["status"], row["error_message"]) for row in summary.failed]
    slowest = [(row["url"], row["duration_ms"]) for row in summary.slowest]
    return {
        **_of_table(table, partition, table.current_generation(partition), summary.targets),
        "scrapedo/targets": summary.targets,
        "scrapedo/succeeded": summary.succeeded,
        "scrapedo/failed": summary.failures,
        "scrapedo/success_ratio": summary.success_ratio,
        "scrapedo/credits": summary.credits,
        "scrapedo/bytes": summary.bytes,
        "scrapedo/statuses": dg.MetadataValue.md(markdown(("status", "HTTP status", "targets"), statuses)),
        "scrapedo/failed_targets": dg.MetadataValue.md(markdown(("target", "status", "reason"), failed)),
        "scrapedo/slowest_targets": dg.MetadataValue.md(markdown(("target", "milliseconds"), slowest)),
        **({"scrapedo/submitted_by": dg.MetadataValue.dagster_run(submitted_by)} if submitted_by else {}),
        "scrapedo/preview": dg.MetadataValue.md(
            markdown(list(next(iter(summary.first), {})), [tuple(row.values()) for row in summary.first])
        ),
    }


def of_contents(table: ParquetTable, partition: str | None, summary: Summary) -> Metadata:
    """Of a materialization of `[name, "contents"]`."""
    current = table.current_generation(partition)
    return {
        **_of_table(table, partition, current, current.rows if current else 0),
        "scrapedo/bytes": summary.bytes,
        "scrapedo/file_bytes": current.bytes if current else 0,
    }


def _of_table(table: ParquetTable, partition: str | None, current: CompleteGeneration | None, rows: int) -> Metadata:
    row_count = "dagster/row_count" if partition is None else "dagster/partition_row_count"
    return {
        row_count: rows,
        "dagster/uri": table.uri(partition),
        "scrapedo/generation": current.generation if current else 0,
    }


def markdown(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> str:
    """A table as the UI shows it; `none` without rows."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) if len(lines) > 2 else "none"


def _cell(value: object) -> str:
    return "" if value is None else " ".join(str(value).split()).replace("|", "\\|")
