"""A summary of one partition, computed from its table `tasks` so that it also covers earlier runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from scrapedo_dagster.engine.storage.tables import ParquetTable

_PREVIEW_ROWS = 5
_LISTED_TARGETS = 10  # failed and slowest targets


class TargetSummary(NamedTuple):
    """The columns of `tasks` that a summary lists of a target."""

    position: int
    url: str
    status: str
    status_code: int | None
    content_type: str | None
    content_length: int | None
    duration_ms: int | None
    credits_used: int | None
    error_message: str | None


@dataclass(frozen=True)
class Summary:
    """The results of one partition.

    Attributes:
        targets: rows of `tasks`.
        succeeded: targets whose task succeeded, whatever HTTP status the target responded with.
        bytes: bytes of decoded content.
        credits: the sum of each task's `Credits-Used`.
        statuses: number of targets by task status and HTTP status (or None), most frequent first.
        failed: the first 10 failed targets.
        slowest: the 10 slowest targets.
        first: the first 5 targets.
    """

    targets: int
    succeeded: int
    bytes: int
    credits: int
    statuses: dict[tuple[str, int | None], int]
    failed: tuple[TargetSummary, ...]
    slowest: tuple[TargetSummary, ...]
    first: tuple[TargetSummary, ...] = ()

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
    table = dataset.to_table(columns=list(TargetSummary._fields)).sort_by([("position", "ascending")])
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
        failed=_first(failed, _LISTED_TARGETS),
        slowest=_first(slowest, _LISTED_TARGETS),
        first=_first(table, _PREVIEW_ROWS),
    )


def _first(table: pa.Table, amount: int) -> tuple[TargetSummary, ...]:
    return tuple(TargetSummary(**row) for row in table.slice(0, amount).to_pylist())


def _total(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column, min_count=0).as_py())
