"""What the steps of a dataset return for each partition; `metadata` makes Dagster metadata of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.storage.summary import Summary, summarize
from scrapedo_dagster.engine.storage.tables import CompleteGeneration, ParquetTable
from scrapedo_dagster.engine.submission.planner import Generation


@dataclass(frozen=True)
class SubmittedBatch:
    """One batch, without its targets. `job_id` is None if it is not sent yet."""

    number: int
    job_id: str | None
    targets: int
    state: str
    submitted_at: datetime | None


@dataclass(frozen=True)
class SubmittedPartition:
    """A partition whose targets are submitted.

    Attributes:
        generation: its generation, and whether that was open before.
        targets: entries of the list, invalid and repeated ones included.
        submitted: different URLs in its jobs.
        rejected: invalid targets, which were skipped.
        batches: its batches, in order.
    """

    generation: Generation
    targets: int
    submitted: int
    rejected: int
    batches: tuple[SubmittedBatch, ...]

    @classmethod
    def of(cls, generation: Generation, submissions: Sequence[SubmissionWithTargets]) -> SubmittedPartition:
        """Count the targets of the submissions of a generation."""
        # A target that is submitted again, after it failed or was canceled, is in several batches.
        entries = {entry.position: entry for each in submissions for entry in each.entries}.values()
        return cls(
            generation,
            targets=len(entries),
            submitted=len({url for each in submissions for url in each.targets}),
            rejected=sum(entry.rejected is not None for entry in entries),
            batches=tuple(
                SubmittedBatch(each.batch, each.job_id, len(each.targets), each.state.value, each.submitted_at)
                for each in submissions
            ),
        )


@dataclass(frozen=True)
class StoredTable:
    """A partition of one table of a dataset. `stored` is its data, None if there is none."""

    uri: str
    stored: CompleteGeneration | None

    @classmethod
    def of(cls, table: ParquetTable, partition: str | None) -> StoredTable:
        """Look up where a partition of a table is."""
        return cls(table.uri(partition), table.current_generation(partition))

    @property
    def generation(self) -> int:
        """The generation that is stored, 0 if there is none."""
        return self.stored.generation if self.stored else 0


@dataclass(frozen=True)
class CollectedPartition:
    """A partition whose results are in Parquet. `submitted_by` is the run that submitted it."""

    partition: str | None
    summary: Summary
    tasks: StoredTable
    contents: StoredTable
    submitted_by: str | None

    @classmethod
    def of(cls, tables: PartitionTables, partition: str | None, submitted_by: str | None) -> CollectedPartition:
        """Summarize a complete partition."""
        return cls(
            partition,
            summarize(tables.tasks, partition),
            StoredTable.of(tables.tasks, partition),
            StoredTable.of(tables.contents, partition),
            submitted_by,
        )
