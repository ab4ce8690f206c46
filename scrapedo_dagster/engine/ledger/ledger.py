"""The ledger: our durable record of submissions, written before and after everything that costs money.

One row a submission; every change is a named transition that compares the state before it swaps it, so that two
workers on one partition cannot both submit a batch. SQLite for one machine, Postgres for several.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from scrapedo_dagster.engine.errors import IllegalTransitionError, LedgerError, LostClaimError
from scrapedo_dagster.engine.ledger.database import open_database
from scrapedo_dagster.engine.ledger.records import (
    RETENTION,
    GenerationRecord,
    PartitionRef,
    Submission,
    SubmissionWithTargets,
    generation_from_row,
    planned_row,
    submission_from_row,
    submission_with_targets_from_row,
)
from scrapedo_dagster.engine.ledger.states import CANCELABLE, TRANSITIONS, State
from scrapedo_dagster.engine.ledger.tables import generations
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.ledger.url import parse_url
from scrapedo_dagster.engine.targets.target import Batch, Entry

_GENERATION = ("account", "dataset", "partition", "generation")
_SLIM = [column for column in table.c if column.name not in {"entries", "task_ids", "fingerprint"}]
_UNASKED = "of a run that nobody asked the ledger for"
_AT_ONCE = 500  # rows that one statement names: a SQLite of old takes 999 parameters


Held = TypeVar("Held", bound=Submission)
Item = TypeVar("Item")


class Ledger:
    """The ledger at a SQLAlchemy URL: `sqlite:////path/ledger.db` or `postgresql+psycopg://user@host/database`.

    The database is opened, and its schema created or upgraded, on first use. Safe to share between threads; each
    process needs its own.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._url = parse_url(url)

    def __repr__(self) -> str:
        return f"Ledger({self._url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        """Close the connections, if it was opened at all. The ledger can be used again."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    def now(self) -> datetime:
        """The time of the ledger, which all its workers share: the database's where they may be on many machines."""
        if self.engine.dialect.name == "sqlite":
            return datetime.now(timezone.utc)
        with self.engine.connect() as connection:
            time: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return time.astimezone(timezone.utc)

    # --- reading

    def generation(self, ref: PartitionRef) -> int:
        """The newest generation of a partition, 0 where there is none."""
        with self.engine.connect() as connection:
            newest = connection.execute(sa.select(sa.func.max(table.c.generation)).where(_of(ref))).scalar()
        return newest or 0

    def run_id_of(self, ref: PartitionRef, generation: int) -> str | None:
        """The run that has submitted a generation, or went on with it last; the first of its retries."""
        same = _of(ref) & (table.c.generation == generation)
        with self.engine.connect() as connection:
            return connection.execute(sa.select(table.c.run_id).where(same).order_by(table.c.batch)).scalars().first()

    def submissions_with_targets(self, ref: PartitionRef, generation: int) -> list[SubmissionWithTargets]:
        """The submissions of a generation, by batch."""
        found = self._select(_of(ref) & (table.c.generation == generation))
        return sorted(found, key=lambda each: each.batch)

    def submitted_again(self, submission: SubmissionWithTargets) -> frozenset[int]:
        """The positions of its generation that were planned once more, after its own attempt: their rows are there."""
        later = (
            _of(submission.ref) & (table.c.generation == submission.generation) & (table.c.attempt > submission.attempt)
        )
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(table.c.entries).where(later)).scalars()
            return frozenset(Entry(*entry).position for entries in found for entry in entries)

    def submissions(self, ref: PartitionRef, generation: int) -> list[Submission]:
        """Where the batches of a generation stand, by batch, without their targets."""
        query = sa.select(*_SLIM).where(_of(ref) & (table.c.generation == generation)).order_by(table.c.batch)
        with self.engine.connect() as connection:
            return [submission_from_row(row) for row in connection.execute(query).mappings()]

    def unconfirmed_generations(
        self, account: str, datasets: Iterable[str]
    ) -> dict[GenerationRecord, list[Submission]]:
        """The newest generation of each partition of these datasets, if there may be something to do about it.

        That is: it is not complete, or Dagster is not known to have been told that it is; and nothing of it was
        canceled. Each with where its batches stand.
        """
        unconfirmed = sa.and_(
            generations.c.account == account,
            generations.c.dataset.in_(list(datasets)),
            generations.c.completed_at.is_(None) | generations.c.collect_key.is_not(None),
            ~_has_newer(generations),
            ~_has_stopped(generations),
        )
        with self.engine.connect() as connection:
            records = [
                generation_from_row(row)
                for row in connection.execute(sa.select(generations).where(unconfirmed)).mappings()
            ]
            submissions = [each for some in _alike(records) for each in _submissions_of(connection, some)]
        found: dict[tuple[PartitionRef, int], list[Submission]] = {}
        for each in submissions:
            found.setdefault((each.ref, each.generation), []).append(each)
        # Postgres may see what was reconciled between the two queries: no batch comes with such a record.
        return {each: found[each.ref, each.number] for each in records if (each.ref, each.number) in found}

    def open_of_canceled(self, account: str, datasets: Iterable[str]) -> list[Submission]:
        """What may still go on of generations of which something was canceled."""
        return self._going_on(account, datasets, _has_stopped(table))

    def superseded(self, account: str, datasets: Iterable[str]) -> list[Submission]:
        """What may still go on of generations in whose place newer ones were begun: nobody collects it."""
        return self._going_on(account, datasets, _has_newer(table))

    def _going_on(self, account: str, datasets: Iterable[str], why: sa.ColumnElement[bool]) -> list[Submission]:
        going_on = sa.and_(
            table.c.account == account,
            table.c.state.in_([state.value for state in CANCELABLE]),
            table.c.dataset.in_(list(datasets)),
            why,
        )
        with self.engine.connect() as connection:
            return [
                submission_from_row(row) for row in connection.execute(sa.select(*_SLIM).where(going_on)).mappings()
            ]

    def find(self, *, account: str | None = None, states: Iterable[State] | None = None) -> list[SubmissionWithTargets]:
        """Submissions of all partitions, oldest first."""
        conditions: list[sa.ColumnElement[bool]] = []
        if account is not None:
            conditions.append(table.c.account == account)
        if states is not None:
            conditions.append(table.c.state.in_([state.value for state in states]))
        return self._select(sa.and_(sa.true(), *conditions))

    def get(self, submission_id: int) -> SubmissionWithTargets:
        """One submission as it is now.

        Raises:
            LedgerError: there is none with this id.
        """
        found = self._select(table.c.id == submission_id)
        if not found:
            raise LedgerError(f"The ledger has no submission {submission_id}: `scrapedo-dagster jobs list` shows all.")
        return found[0]

    def by_ids(self, submission_ids: Iterable[int]) -> dict[int, Submission]:
        """Where submissions stand now, by id, without their targets; nothing for ids that there are not."""
        query = sa.select(*_SLIM).where(table.c.id.in_(list(submission_ids)))
        with self.engine.connect() as connection:
            return {row["id"]: submission_from_row(row) for row in connection.execute(query).mappings()}

    def count(self, account: str, states: Iterable[State]) -> int:
        """How many submissions of an account are in these states."""
        condition = (table.c.account == account) & table.c.state.in_([state.value for state in states])
        with self.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).where(condition)).scalar_one()

    def known_jobs(self, account: str) -> set[str]:
        """The ids of all jobs of an account that the ledger has ever recorded."""
        condition = (table.c.account == account) & table.c.job_id.is_not(None)
        with self.engine.connect() as connection:
            return set(connection.execute(sa.select(table.c.job_id).where(condition)).scalars())

    # --- writing: the named transitions

    def plan(
        self, ref: PartitionRef, generation: int, batches: Sequence[Batch], *, fingerprint: str, run_id: str | None
    ) -> bool:
        """Record all batches of a new generation at once. False if another worker has begun this generation."""
        now = self.now()
        rows = [
            planned_row(ref, generation, batch, 0, entries, fingerprint, run_id, now)
            for batch, entries in enumerate(batches)
        ]
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(generations), {name: rows[0][name] for name in _GENERATION})
                connection.execute(sa.insert(table), rows)
        except IntegrityError:
            return False
        return True

    def mark_completed(self, ref: PartitionRef, generation: int) -> None:
        """The files of a generation are the data of its partition. Dagster is still to be told."""
        same = _of(ref, generations) & (generations.c.generation == generation)
        key = sa.func.coalesce(generations.c.collect_key, _UNASKED)
        now = self.now()
        with self.engine.begin() as connection:
            connection.execute(sa.update(generations).where(same).values(completed_at=now, collect_key=key))

    def collect_requested(
        self, records: Iterable[GenerationRecord], key: str, *, again_after: Callable[[int], timedelta]
    ) -> list[GenerationRecord]:
        """A collecting run is about to be asked for. Returns those for which no other sensor was faster.

        Args:
            records: of generations.
            key: what the run key begins with.
            again_after: how long after this run the next one may be, by the number of those before it.
        """
        now = self.now()
        return self._swap_generations(
            records,
            lambda attempts: {
                "collect_key": key,
                "collect_attempts": attempts + 1,
                "collect_after": now + again_after(attempts),
            },
        )

    def collect_confirmed(self, records: Iterable[GenerationRecord]) -> None:
        """Dagster was told of what the last collecting runs did."""
        self._swap_generations(
            records, lambda _attempts: {"collect_key": None, "collect_attempts": 0, "collect_after": None}
        )

    def _swap_generations(
        self, records: Iterable[GenerationRecord], values: Callable[[int], dict[str, Any]]
    ) -> list[GenerationRecord]:
        """Change generations, but for those for which a run was asked for since they were read.

        `values` are by the number of runs that were asked for.
        """
        changed: list[GenerationRecord] = []
        for some in _alike(records):
            attempts = some[0].collect_attempts
            as_seen = _alike_in(generations, some) & (generations.c.collect_attempts == attempts)
            record_of = {json.dumps(each.ref.partition): each for each in some}
            ours = self._swap(generations.c.partition, record_of, as_seen, values(attempts))
            changed += [each for partition, each in record_of.items() if partition in ours]
        return changed

    def _swap(
        self, key: sa.Column[Any], keys: Iterable[Any], as_seen: sa.ColumnElement[bool], values: dict[str, Any]
    ) -> set[Any]:
        """Change the rows with these keys that are as they were seen, in one transaction. Returns their keys."""
        with self.engine.begin() as connection:
            ours = set(connection.execute(_locked(key, as_seen & key.in_(list(keys)))).scalars())
            connection.execute(sa.update(key.table).where(as_seen & key.in_(ours)).values(values))
        return ours

    def take_over(self, ref: PartitionRef, generation: int, *, run_id: str | None) -> None:
        """Another run goes on with a generation: from now on it is this run's, and collecting it is tried anew."""
        anew = {"collect_attempts": 0, "collect_after": None}
        with self.engine.begin() as connection:
            same = _of(ref) & (table.c.generation == generation)
            connection.execute(_locked(table.c.id, same))
            connection.execute(sa.update(table).where(same).values(run_id=run_id))
            whole = _of(ref, generations) & (generations.c.generation == generation)
            connection.execute(sa.update(generations).where(whole).values(anew))

    def claim(
        self, submission: SubmissionWithTargets, *, run_id: str | None, fingerprint: str
    ) -> SubmissionWithTargets | None:
        """Take a planned submission in order to submit it. None if another worker was faster."""
        if submission.state != State.PLANNED:
            raise _illegal(submission, State.SUBMITTING)  # it has a claim, which is not ours to take
        try:
            return self._move(
                submission,
                State.SUBMITTING,
                claim=uuid.uuid4().hex,
                claimed_at=self.now(),
                run_id=run_id,
                fingerprint=fingerprint,
                reason=None,
            )
        except LostClaimError:
            return None

    def renew(self, submission: SubmissionWithTargets) -> SubmissionWithTargets:
        """Say before another attempt that this claim is alive.

        The claim gets another name: whoever has seen the old one, and takes its worker for dead, loses.
        """
        if submission.state != State.SUBMITTING:
            raise _illegal(submission, State.SUBMITTING)
        return self._move(submission, State.SUBMITTING, claim=uuid.uuid4().hex, claimed_at=self.now())

    def release(self, submission: Held, reason: str) -> Held:
        """Plan it again: it certainly is no job."""
        return self._move(submission, State.PLANNED, claim=None, reason=reason)

    def mark_uncertain(self, submission: Held, reason: str) -> Held:
        """Its answer is lost: it may or may not be a job."""
        return self._move(submission, State.UNCERTAIN, reason=reason)

    def mark_submitted(
        self, submission: SubmissionWithTargets, job_id: str, task_ids: Sequence[str]
    ) -> SubmissionWithTargets:
        """It is this job.

        Raises:
            LostClaimError: another worker has moved it, or the job is another submission's.
        """
        now = self.now()
        return self._move(
            submission,
            State.SUBMITTED,
            claim=None,
            job_id=job_id,
            task_ids=list(task_ids),
            submitted_at=now,
            expires_at=(submission.claimed_at or now) + RETENTION,  # it may have been adopted days later
            reason=None,
        )

    def mark_finished(self, submission: Held) -> Held:
        """Its job has ended, in whatever status; or it has nothing to send."""
        if submission.state == State.CANCELED or (submission.state == State.PLANNED and submission.target_count):
            raise _illegal(submission, State.FINISHED)  # they would never be sent
        return self._move(submission, State.FINISHED, finished_at=self.now())

    def resume(self, submission: SubmissionWithTargets, again: Batch) -> SubmissionWithTargets:
        """It was canceled, and is gone on with. What was not done is planned as a new batch in the same moment."""
        if submission.state != State.CANCELED:
            raise _illegal(submission, State.FINISHED)
        now = self.now()
        with self.engine.begin() as connection:
            moved = self._move_on(connection, submission, State.FINISHED, reason=None)
            self._plan_again(connection, submission, again, now)
        return moved

    def finish_all(self, submissions: Sequence[Held]) -> list[Held]:
        """The jobs of all these have ended. Returns those that no other worker had moved.

        A few transactions, however many there are: whoever dies in between has recorded some of them.
        """
        if illegal := [each for each in submissions if each.state != State.SUBMITTED]:
            raise _illegal(illegal[0], State.FINISHED)
        as_seen = (table.c.state == State.SUBMITTED.value) & table.c.claim.is_(None)
        finished: list[Held] = []
        for some in _parts(submissions):
            now = self.now()
            values = {"state": State.FINISHED.value, "finished_at": now}
            ours = self._swap(table.c.id, [each.id for each in some], as_seen, values)
            finished += [replace(each, state=State.FINISHED, finished_at=now) for each in some if each.id in ours]
        return finished

    def mark_expired(self, submission: Held, reason: str) -> Held:
        """Its job is gone, and with it what was not collected."""
        return self._move(submission, State.EXPIRED, finished_at=self.now(), reason=reason)

    def mark_canceled(self, submission: Held, reason: str) -> Held:
        """A person wanted it to stop."""
        return self._move(submission, State.CANCELED, claim=None, finished_at=self.now(), reason=reason)

    def mark_collected(
        self, submission: SubmissionWithTargets, *, credits_used: int, succeeded: int, again: Batch = ()
    ) -> SubmissionWithTargets:
        """Its rows are in Parquet, but for those of `again`: these are planned as a new batch in the same moment."""
        now = self.now()
        with self.engine.begin() as connection:
            moved = self._move_on(
                connection, submission, State.COLLECTED, collected_at=now, credits=credits_used, succeeded=succeeded
            )
            self._plan_again(connection, submission, again, now)
        return moved

    def _plan_again(
        self, connection: sa.Connection, submission: SubmissionWithTargets, again: Batch, now: datetime
    ) -> None:
        """Plan some entries of a submission as a new batch, if there are any."""
        if not again:
            return
        # Batches that end at the same time must not be given one number; this row is there once a generation.
        whole = _of(submission.ref, generations) & (generations.c.generation == submission.generation)
        connection.execute(sa.select(generations.c.generation).where(whole).with_for_update())
        same = _of(submission.ref) & (table.c.generation == submission.generation)
        last = connection.execute(sa.select(sa.func.max(table.c.batch)).where(same)).scalar_one()
        row = planned_row(
            submission.ref,
            submission.generation,
            last + 1,
            submission.attempt + 1,
            again,
            submission.fingerprint,
            submission.run_id,
            now,
        )
        connection.execute(sa.insert(table), [row])

    def _move(self, submission: Held, to: State, **values: Any) -> Held:
        try:
            with self.engine.begin() as connection:
                return self._move_on(connection, submission, to, **values)
        except IntegrityError as error:
            raise LostClaimError(
                f"Job {values.get('job_id')} belongs to another submission than {submission.id} ({submission.ref})."
            ) from error

    def _move_on(self, connection: sa.Connection, submission: Held, to: State, **values: Any) -> Held:
        if to not in TRANSITIONS[submission.state]:
            raise _illegal(submission, to)
        same_claim = table.c.claim.is_(None) if submission.claim is None else table.c.claim == submission.claim
        swapped = connection.execute(
            sa.update(table)
            .where((table.c.id == submission.id) & (table.c.state == submission.state.value) & same_claim)
            .values(state=to.value, **values)
        )
        if swapped.rowcount != 1:
            raise LostClaimError(
                f"Submission {submission.id} of {submission.ref} is no longer {submission.state.value}: "
                "another worker has moved it."
            )
        if "task_ids" in values:
            values["task_ids"] = tuple(values["task_ids"])
        return replace(submission, state=to, **values)

    def _select(self, condition: sa.ColumnElement[bool]) -> list[SubmissionWithTargets]:
        order = (table.c.planned_at, table.c.generation, table.c.batch, table.c.id)
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(table).where(condition).order_by(*order)).mappings().all()
        return [submission_with_targets_from_row(row) for row in rows]

    @cached_property
    def engine(self) -> sa.Engine:
        """The database, whose other tables may be used as well."""
        return open_database(self._url)


def _locked(key: sa.Column[Any], condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Lock rows in one order, so that two workers with the same ones wait for each other and do not deadlock."""
    return sa.select(key).where(condition).order_by(key).with_for_update()


def _has_newer(of: sa.Table) -> sa.ColumnElement[bool]:
    newer = generations.alias()
    return sa.exists().where(
        *(newer.c[name] == of.c[name] for name in ("account", "dataset", "partition")),
        newer.c.generation > of.c.generation,
    )


def _has_stopped(of: sa.Table) -> sa.ColumnElement[bool]:
    stopped = table.alias()
    return sa.exists().where(
        *(stopped.c[name] == of.c[name] for name in _GENERATION),
        stopped.c.state.in_([State.CANCELED.value, State.FAILED.value]),
    )


def _alike(records: Iterable[GenerationRecord]) -> Iterator[Sequence[GenerationRecord]]:
    """Groups in which all but the partition is the same, and of which one statement can name all."""
    groups: dict[tuple[str, str, int, int], list[GenerationRecord]] = {}
    for each in records:
        of = (each.ref.account, each.ref.dataset, each.number, each.collect_attempts)
        groups.setdefault(of, []).append(each)
    return (some for group in groups.values() for some in _parts(group))


def _alike_in(of: sa.Table, records: Sequence[GenerationRecord]) -> sa.ColumnElement[bool]:
    """What is the same of all of them. Postgres joins badly as long as it has no statistics; this needs no join."""
    [(account, dataset, number)] = {(each.ref.account, each.ref.dataset, each.number) for each in records}
    return (of.c.account == account) & (of.c.dataset == dataset) & (of.c.generation == number)


def _submissions_of(connection: sa.Connection, records: Sequence[GenerationRecord]) -> Iterator[Submission]:
    partitions = [json.dumps(each.ref.partition) for each in records]
    same = _alike_in(table, records) & table.c.partition.in_(partitions)
    return map(
        submission_from_row, connection.execute(sa.select(*_SLIM).where(same).order_by(table.c.batch)).mappings()
    )


def _parts(of: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (of[first : first + _AT_ONCE] for first in range(0, len(of), _AT_ONCE))


def _illegal(submission: Submission, to: State) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"Submission {submission.id} of {submission.ref} cannot go from {submission.state.value} to {to.value}."
    )


def _of(ref: PartitionRef, of: sa.Table = table) -> sa.ColumnElement[bool]:
    return (of.c.account == ref.account) & (of.c.dataset == ref.dataset) & (of.c.partition == json.dumps(ref.partition))
