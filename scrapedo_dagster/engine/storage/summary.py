"""A summary of one partition, computed from its table `tasks` so that it also covers earlier runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scrapedo_dagster.engine.storage.tables import ParquetTable

_PREVIEW_ROWS = 5
_LISTED_TARGETS = 10  # failed and slowest targets

_PREVIEW_COLUMNS = ["position", "url", "status", "status_code", "content_type", "content_length"]
_COLUMNS = [*_PREVIEW_COLUMNS, "duration_ms", "credits_used", "error_message"]


@dataclass(frozen=True)
class Summary:
    """The results of one partition.

    Attributes:
        targets: rows of `tasks`.
        succeeded: targets whose task succeeded, whatever HTTP status the target responded with.
        bytes: bytes of decoded content.
        credits: the sum of each task's `Credits-Used`.
        statuses: number of targets by task status and HTTP status (or None), most frequent first.
        failed: the first 10 failed targets, as rows with url, status and error_message.
        slowest: the 10 slowest targets, as rows with url and duration_ms.
        first: the first 5 targets, as rows with a few columns.
    """

    targets: int
    succeeded: int
    bytes: int
    credits: int
    statuses: dict[tuple[str, int | None], int]
    failed: tuple[dict[str, Any], ...]
    slowest: tuple[dict[str, Any], ...]
    first: tuple[dict[str, Any], ...] = ()

    @property
    def failures(self) -> int:
        """Targets whose task did not succeed."""
        return self.targets - self.succeeded

    @property
    def success_ratio(self) -> float:
        """Share of the targets that succeeded, from 0 to 1; 1 without targets."""
        return self.succeeded / self.targets if self.targets else 1.0


def summarize(tasks: ParquetTable, partition: str | None) -> Summary:
    """Return the summary of a complete partition.

    Raises:
        MissingPartitionsError: the partition is not complete.
    """
    dataset = tasks.dataset(None if partition is None else [partition])
    table = dataset.to_table(columns=_COLUMNS).sort_by([("position", "ascending")])
    counted = table.group_by(["status", "status_code"]).aggregate([([], "count_all")])
    by_count = counted.sort_by([("count_all", "descending")]).to_pylist()
    failed = table.filter(pc.field("status") != "success")
    slowest = table.filter(pc.field("duration_ms").is_valid()).sort_by([("duration_ms", "descending")])
    return Summary(
        targets=table.num_rows,
        succeeded=table.num_rows - failed.num_rows,
        bytes=_total(table["content_length"]),
        credits=_total(table["credits_used"]),
        statuses={(row["status"], row["status_code"]): row["count_all"] for row in by_count},
        failed=tuple(failed.slice(0, _LISTED_TARGETS).to_pylist()),
        slowest=tuple(slowest.slice(0, _LISTED_TARGETS).to_pylist()),
        first=tuple(table.select(_PREVIEW_COLUMNS).slice(0, _PREVIEW_ROWS).to_pylist()),
    )


def _total(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column, min_count=0).as_py())
