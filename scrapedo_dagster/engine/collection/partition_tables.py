"""The two Parquet tables of one partition, `tasks` and `contents`, completed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scrapedo_dagster.engine.ledger.records import Submission, SubmissionWithTargets
from scrapedo_dagster.engine.storage.row_groups import PartWriter
from scrapedo_dagster.engine.storage.tables import ParquetTable


@dataclass(frozen=True)
class PartitionTables:
    """The tables that receive the results of one partition."""

    tasks: ParquetTable
    contents: ParquetTable
    partition: str | None

    def newest_generation(self) -> int:
        """Return the newest generation that has files, complete or not, or 0."""
        return max(self._generations(), default=0)

    def unfinished_generation(self) -> int | None:
        """Return the newest generation that has files, unless it is complete and has the only files."""
        generations = self._generations()
        if not generations:
            return None
        newest = max(generations)
        # `tasks` is completed last, and older files are removed after that.
        current = self.tasks.current_generation(self.partition)
        is_complete = current is not None and current.generation >= newest
        return None if is_complete and generations == {newest} else newest

    def complete(self, generation: int, batches: Sequence[int]) -> None:
        """Make a generation the data of the partition, and remove older files."""
        # `tasks` last: a reader that sees its generation complete finds the contents complete as well.
        for table in (self.contents, self.tasks):
            table.complete_generation(self.partition, generation, batches)
        for table in (self.contents, self.tasks):
            table.remove_older_generations(self.partition, generation)

    def lost(self, collected: Sequence[Submission]) -> list[Submission]:
        """Return those of these collected submissions whose files are missing."""
        # A part of `tasks` is committed after that of `contents`, and proves both.
        parts = {(part.generation, part.index) for part in self.tasks.parts(self.partition)}
        return [each for each in collected if (each.generation, each.batch) not in parts]

    @contextmanager
    def open_parts(self, submission: SubmissionWithTargets) -> Iterator[tuple[PartWriter, PartWriter]]:
        """Open the parts of a submission in `tasks` and `contents`."""
        part = (self.partition, submission.generation, submission.batch)
        with self.tasks.open_part(*part) as tasks_part, self.contents.open_part(*part) as contents_part:
            yield tasks_part, contents_part

    def _generations(self) -> set[int]:
        parts = (part for table in (self.tasks, self.contents) for part in table.parts(self.partition))
        return {part.generation for part in parts}
