"""Dagster metadata of results: Dagster's own keys where it has them, ours under `scrapedo/`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from scrapedo_dagster.dataset import Dataset
    from scrapedo_dagster.execution.results import CollectedPartition, StoredTable, SubmittedPartition

GENERATION_KEY = "scrapedo/generation"

Metadata = dict[str, Any]
MetadataByAsset = dict[dg.AssetKey, Metadata]


def submitted_metadata(dataset: Dataset, result: SubmittedPartition) -> MetadataByAsset:
    """Describe a materialization of `[name, "jobs"]`."""
    jobs = [
        (
            each.number,
            each.job_id,
            each.targets,
            each.state,
            each.submitted_at and f"{each.submitted_at:%Y-%m-%d %H:%M:%S} UTC",
        )
        for each in result.batches
    ]
    columns = {"batch": "int", "job": "string", "targets": "int", "state": "string", "submitted at": "string"}
    return {
        dataset.jobs_key: {
            GENERATION_KEY: result.generation.number,
            "scrapedo/continued": result.generation.continued,
            "scrapedo/targets": result.targets,
            "scrapedo/submitted": result.submitted,
            "scrapedo/rejected": result.rejected,
            "scrapedo/jobs": sum(each.job_id is not None for each in result.batches),
            "scrapedo/job_ids": table(columns, jobs),
        }
    }


def collected_metadata(dataset: Dataset, result: CollectedPartition) -> MetadataByAsset:
    """Describe the materializations of `[name, "tasks"]` and `[name, "contents"]`."""
    summary, stored = result.summary, result.contents.stored
    statuses = [(status, code, count) for (status, code), count in summary.statuses.items()]
    failed = [(each.url, each.status, each.error_message) for each in summary.failed]
    slowest = [(each.url, each.duration_ms) for each in summary.slowest]
    preview_columns = {
        "position": "int",
        "url": "string",
        "status": "string",
        "status_code": "int",
        "content_type": "string",
        "content_length": "int",
    }
    return {
        dataset.tasks_key: {
            **_table_metadata(result.partition, result.tasks, summary.targets),
            "scrapedo/targets": summary.targets,
            "scrapedo/succeeded": summary.succeeded,
            "scrapedo/failed": summary.failures,
            "scrapedo/success_ratio": summary.success_ratio,
            "scrapedo/credits": summary.credits,
            "scrapedo/bytes": summary.bytes,
            "scrapedo/statuses": table({"status": "string", "HTTP status": "int", "targets": "int"}, statuses),
            "scrapedo/failed_targets": table({"target": "string", "status": "string", "reason": "string"}, failed),
            "scrapedo/slowest_targets": table({"target": "string", "milliseconds": "int"}, slowest),
            "scrapedo/preview": table(preview_columns, [each[: len(preview_columns)] for each in summary.first]),
            **_run_metadata("scrapedo/submitted_by", result.submitted_by),
        },
        dataset.contents_key: {
            **_table_metadata(result.partition, result.contents, stored.rows if stored else 0),
            "scrapedo/bytes": summary.bytes,
            "scrapedo/file_bytes": stored.bytes if stored else 0,
        },
    }


def check_metadata(name: str, value: float, checked: int, failed: int, failed_table: dg.TableMetadataValue) -> Metadata:
    """Describe the result of an asset check. The table has the first failed partitions."""
    return {
        f"scrapedo/{name}": value,
        "scrapedo/partitions": checked,
        "scrapedo/failed_partitions": failed,
        "scrapedo/failures": failed_table,
    }


def _run_metadata(key: str, run_id: str | None) -> Metadata:
    return {key: dg.MetadataValue.dagster_run(run_id)} if run_id else {}


def _table_metadata(partition: str | None, result: StoredTable, rows: int) -> Metadata:
    return {
        "dagster/row_count" if partition is None else "dagster/partition_row_count": rows,
        "dagster/uri": result.uri,
        GENERATION_KEY: result.generation,
    }


def table(columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]) -> dg.TableMetadataValue:
    """Make a table that the Dagster UI shows. `columns` are names and types of `dg.TableColumn`."""
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        dg.TableSchema([dg.TableColumn(name, type=of_type) for name, of_type in columns.items()]),
    )
