"""What a partition came to, computed from its table `tasks`, so that it is true after a resumed collect as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scrapedo_dagster.engine.storage.tables import ParquetTable

_FIRST = 5  # rows of a preview
_WORST = 10  # failed targets and slowest targets that a summary names

_PREVIEW = ["position", "url", "status", "status_code", "content_type", "content_length"]
_COLUMNS = [*_PREVIEW, "duration_ms", "credits_used", "error_message"]


@dataclass(frozen=True)
class Summary:
    """One partition in numbers.

    Attributes:
        targets: rows of `tasks`.
        succeeded: targets whose task succeeded, whatever the target itself answered.
        bytes: decoded content.
        credits: as billed in each task's `Credits-Used`.
        statuses: (task status, the target's HTTP status or None) to the number of targets, most frequent first.
        failed: the first failed targets, as rows with url, status and error_message.
        slowest: the slowest targets, as rows with url and duration_ms.
        first: the first targets, as rows with a few columns that tell most.
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
        """How many of the targets succeeded, from 0 to 1; 1 without targets."""
        return self.succeeded / self.targets if self.targets else 1.0


def summarize(tasks: ParquetTable, partition: str | None) -> Summary:
    """The summary of a complete partition.

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
        failed=tuple(failed.slice(0, _WORST).to_pylist()),
        slowest=tuple(slowest.slice(0, _WORST).to_pylist()),
        first=tuple(table.select(_PREVIEW).slice(0, _FIRST).to_pylist()),
    )


def _total(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column, min_count=0).as_py())
