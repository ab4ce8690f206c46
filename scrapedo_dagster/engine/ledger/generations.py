"""The generations of the ledger: one row a deliberate scrape of a partition."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from scrapedo_dagster.engine.ledger.conditions import (
    PARTITION_COLUMNS,
    in_generation,
    in_partition,
    is_canceled,
    is_superseded,
)
from scrapedo_dagster.engine.ledger.database import Database, locked
from scrapedo_dagster.engine.ledger.records import (
    OF_GENERATION,
    WITHOUT_TARGETS,
    GenerationRecord,
    PartitionRef,
    RecordedOptions,
    Submission,
    generation_from_row,
    planned_row,
    submission_from_row,
)
from scrapedo_dagster.engine.ledger.tables import generations, submissions
from scrapedo_dagster.engine.targets.target import Batch


class GenerationStore:
    """Reads generations and changes them by named transitions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, ref: PartitionRef) -> int:
        """Return the number of the newest generation of a partition, 0 if there is none."""
        query = sa.select(sa.func.max(submissions.c.generation)).where(in_partition(submissions, ref))
        with self._database.engine.connect() as connection:
            return connection.execute(query).scalar() or 0

    def run_id(self, ref: PartitionRef, generation: int) -> str | None:
        """Return the run that submitted a generation or took it over last; of retries, the first run."""
        same = in_generation(submissions, ref, generation)
        query = sa.select(submissions.c.run_id).where(same).order_by(submissions.c.batch)
        with self._database.engine.connect() as connection:
            return connection.execute(query).scalars().first()

    def unconfirmed(self, account: str, datasets: Iterable[str]) -> dict[GenerationRecord, list[Submission]]:
        """Return the newest generation of each partition of these datasets, if there may be work left on it.

        That is: it is not complete, or Dagster is not known to have its materialization; and none of its submissions
        is canceled. Each with its submissions, by batch.
        """
        unconfirmed = sa.and_(
            generations.c.account == account,
            generations.c.dataset.in_(list(datasets)),
            generations.c.completed_at.is_(None) | generations.c.confirmed_at.is_(None),
            ~is_superseded(generations),
            ~is_canceled(generations),
        )
        with self._database.engine.connect() as connection:
            rows = connection.execute(sa.select(*OF_GENERATION).where(unconfirmed)).mappings()
            records = [generation_from_row(row) for row in rows]
            found: dict[tuple[PartitionRef, int], list[Submission]] = {}
            for some in self._grouped(records):
                partitions = [json.dumps(each.ref.partition) for each in some]
                same = _in_group(submissions, some) & submissions.c.partition.in_(partitions)
                query = sa.select(*WITHOUT_TARGETS).where(same).order_by(submissions.c.batch)
                for row in connection.execute(query).mappings():
                    each = submission_from_row(row)
                    found.setdefault((each.ref, each.generation), []).append(each)
        # On Postgres, a generation may be planned or removed between the two queries: then it has no submissions here.
        return {each: found[each.ref, each.number] for each in records if (each.ref, each.number) in found}

    def recorded_options(self, ref: PartitionRef, generation: int) -> RecordedOptions | None:
        """Return the recorded options of a generation, None if there are none."""
        same = in_generation(generations, ref, generation)
        with self._database.engine.connect() as connection:
            recorded = connection.execute(sa.select(generations.c.recorded_options).where(same)).scalar()
        return None if recorded is None else RecordedOptions(**{**recorded, "withheld": tuple(recorded["withheld"])})

    def plan(
        self,
        ref: PartitionRef,
        generation: int,
        batches: Sequence[Batch],
        *,
        fingerprint: str,
        run_id: str | None,
        recorded_options: RecordedOptions | None = None,
    ) -> bool:
        """Record a new generation with all its batches and its options, in one transaction.

        Returns False if another worker has begun this generation.
        """
        now = self._database.now()
        rows = [
            planned_row(ref, generation, batch, 0, entries, fingerprint, run_id, now)
            for batch, entries in enumerate(batches)
        ]
        try:
            with self._database.engine.begin() as connection:
                row = {name: rows[0][name] for name in (*PARTITION_COLUMNS, "generation")}
                connection.execute(sa.insert(generations), row | _options_row(recorded_options))
                connection.execute(sa.insert(submissions), rows)
        except IntegrityError:
            return False
        return True

    def take_over(
        self,
        ref: PartitionRef,
        generation: int,
        *,
        run_id: str | None,
        recorded_options: RecordedOptions | None = None,
    ) -> None:
        """Assign a generation to another run that continues it, and allow collecting it anew.

        The run's options replace the recorded ones, if it records any.
        """
        with self._database.engine.begin() as connection:
            same = in_generation(submissions, ref, generation)
            connection.execute(locked(submissions.c.id, same))
            connection.execute(sa.update(submissions).where(same).values(run_id=run_id))
            connection.execute(
                sa.update(generations)
                .where(in_generation(generations, ref, generation))
                .values(collect_attempts=0, collect_after=None, **_options_row(recorded_options))
            )

    def mark_completed(self, ref: PartitionRef, generation: int) -> None:
        """Record that the files of a generation are the data of its partition. Dagster has yet to confirm it."""
        same = in_generation(generations, ref, generation)
        now = self._database.now()
        with self._database.engine.begin() as connection:
            connection.execute(sa.update(generations).where(same).values(completed_at=now, confirmed_at=None))

    def mark_collection_requested(
        self, records: Iterable[GenerationRecord], key: str, *, again_after: Callable[[int], timedelta]
    ) -> list[GenerationRecord]:
        """Record that a collecting run is about to be requested.

        Args:
            records: the generations that it collects.
            key: the beginning of its run key.
            again_after: the time after this run before the next may be requested, by the number of earlier runs.

        Returns:
            The generations for which no other sensor was faster.
        """
        now = self._database.now()
        return self._swap(
            records,
            lambda attempts: {
                "collect_key": key,
                "collect_attempts": attempts + 1,
                "collect_after": now + again_after(attempts),
            },
        )

    def mark_confirmed(self, records: Iterable[GenerationRecord]) -> None:
        """Record that Dagster has the materializations of these generations."""
        now = self._database.now()
        self._swap(records, lambda _attempts: {"confirmed_at": now, "collect_attempts": 0, "collect_after": None})

    def _swap(
        self, records: Iterable[GenerationRecord], values: Callable[[int], dict[str, Any]]
    ) -> list[GenerationRecord]:
        """Update the unconfirmed generations for which no run was requested since they were read.

        `values` maps the number of runs requested so far to the new values of the columns.
        """
        changed: list[GenerationRecord] = []
        for some in self._grouped(records):
            attempts = some[0].collect_attempts
            as_seen = sa.and_(
                _in_group(generations, some),  # `swap` names the partitions
                generations.c.collect_attempts == attempts,
                generations.c.completed_at.is_(None) | generations.c.confirmed_at.is_(None),
            )
            record_of = {json.dumps(each.ref.partition): each for each in some}
            ours = self._database.swap(generations.c.partition, record_of, as_seen, values(attempts))
            changed += [each for partition, each in record_of.items() if partition in ours]
        return changed

    def _grouped(self, records: Iterable[GenerationRecord]) -> Iterator[Sequence[GenerationRecord]]:
        """Group generations that differ by their partition alone, as many as one statement can name."""
        groups: dict[tuple[str, str, int, int], list[GenerationRecord]] = {}
        for each in records:
            of = (each.ref.account, each.ref.dataset, each.number, each.collect_attempts)
            groups.setdefault(of, []).append(each)
        return (some for group in groups.values() for some in self._database.chunks(group))


def _options_row(recorded: RecordedOptions | None) -> dict[str, Any]:
    return {} if recorded is None else {"recorded_options": asdict(recorded)}


def _in_group(table: sa.Table, records: Sequence[GenerationRecord]) -> sa.ColumnElement[bool]:
    """The rows of one account, dataset and generation number, which generations of different partitions share.

    A join would be shorter, but Postgres plans it badly as long as it has no statistics.
    """
    [(account, dataset, number)] = {(each.ref.account, each.ref.dataset, each.number) for each in records}
    return (table.c.account == account) & (table.c.dataset == dataset) & (table.c.generation == number)
