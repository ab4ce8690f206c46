"""The two Parquet tables of one partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scrapedo_dagster.engine.ledger.records import Submission, SubmissionWithTargets
from scrapedo_dagster.engine.storage.row_groups import PartWriter
from scrapedo_dagster.engine.storage.tables import ParquetTable


@dataclass(frozen=True)
class Tables:
    """Where a partition's results go."""

    tasks: ParquetTable
    contents: ParquetTable
    partition: str | None

    def newest_generation(self) -> int:
        """The newest generation that has left files, complete or not; 0 where none has."""
        return max(self._generations(), default=0)

    def unfinished_generation(self) -> int | None:
        """The newest generation that has left files, if these are not yet the data of the partition, and alone."""
        generations = self._generations()
        if not generations:
            return None
        newest = max(generations)
        # `tasks` is completed last, and removing what is older comes after that.
        current = self.tasks.current_generation(self.partition)
        is_complete = current is not None and current.generation >= newest
        return None if is_complete and generations == {newest} else newest

    def complete(self, generation: int, batches: Sequence[int]) -> None:
        """Make a generation the data of the partition, and remove what is older."""
        # `tasks` last: whoever sees its generation complete finds the contents complete as well.
        for table in (self.contents, self.tasks):
            table.complete_generation(self.partition, generation, batches)
        for table in (self.contents, self.tasks):
            table.remove_older_generations(self.partition, generation)

    def lost(self, collected: Sequence[Submission]) -> list[Submission]:
        """Those of these submissions whose rows are not there."""
        # A part of `tasks` is committed after that of `contents`, and stands for both.
        parts = {(part.generation, part.index) for part in self.tasks.parts(self.partition)}
        return [each for each in collected if (each.generation, each.batch) not in parts]

    def _generations(self) -> set[int]:
        parts = (part for table in (self.tasks, self.contents) for part in table.parts(self.partition))
        return {part.generation for part in parts}

    @contextmanager
    def open_parts(self, submission: SubmissionWithTargets) -> Iterator[tuple[PartWriter, PartWriter]]:
        """The parts of a submission in `tasks` and `contents`."""
        place = (self.partition, submission.generation, submission.batch)
        with self.tasks.open_part(*place) as tasks_part, self.contents.open_part(*place) as contents_part:
            yield tasks_part, contents_part
