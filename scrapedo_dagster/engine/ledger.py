"""The ledger: our durable record of submissions, written before and after everything that costs money.

One row a submission; every change is a named transition that compares the state before it swaps it, so that two
workers on one partition cannot both submit a batch. SQLite for one machine, Postgres for several.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from scrapedo_dagster.engine.ledger_place import parse_url
from scrapedo_dagster.engine.ledger_tables import submissions as table
from scrapedo_dagster.engine.migrate import migrate
from scrapedo_dagster.engine.states import FOLLOWERS, OPEN, State
from scrapedo_dagster.engine.targets import Batch, Entry

_BUSY_SECONDS = 60  # to wait for another process that is writing to a SQLite ledger

RETENTION = timedelta(days=3)
"""How long Scrape.do keeps results, counted from the job's creation [doc]."""


class LedgerError(Exception):
    """The ledger cannot do what it was asked; the message says what to do."""


class IllegalTransitionError(LedgerError):
    """A state that does not follow the present one was asked for: a mistake in the program."""


class LostClaimError(LedgerError):
    """The submission is no longer in the state it was seen in: another worker has moved it."""


def account_of(token: str) -> str:
    """What the ledger knows of a token: enough to tell two accounts apart, too little to use."""
    return sha256(f"scrapedo account {token}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Scope:
    """What a generation is of: one partition (None: unpartitioned) of one dataset, scraped by one account."""

    account: str
    dataset: str
    partition: str | None

    def __str__(self) -> str:
        return self.dataset if self.partition is None else f"{self.dataset}, partition {self.partition!r}"


@dataclass(frozen=True)
class Submission:
    """A batch as the ledger knows it. `claim` names the attempt at submitting it that holds it."""

    id: int
    scope: Scope
    generation: int
    batch: int
    attempt: int
    state: State
    entries: Batch
    fingerprint: str
    claim: str | None
    job_id: str | None
    task_ids: tuple[str, ...]
    run_id: str | None
    reason: str | None
    credits: int | None
    succeeded: int | None
    planned_at: datetime
    claimed_at: datetime | None
    submitted_at: datetime | None
    finished_at: datetime | None
    collected_at: datetime | None
    expires_at: datetime | None

    @property
    def targets(self) -> tuple[str, ...]:
        """What is sent: every valid URL once, in the order of the entries."""
        return tuple(dict.fromkeys(entry.url for entry in self.entries if entry.rejected is None))

    @property
    def is_open(self) -> bool:
        """Whether its outcome is not in Parquet yet."""
        return self.state in OPEN


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
        if "_engine" in self.__dict__:
            self._engine.dispose()

    def now(self) -> datetime:
        """The time of the ledger, which all its workers share: the database's where they may be on many machines."""
        if self._engine.dialect.name == "sqlite":
            return datetime.now(timezone.utc)
        with self._engine.connect() as connection:
            time: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return time.astimezone(timezone.utc)

    # --- reading

    def generation(self, scope: Scope) -> int:
        """The newest generation of a partition, 0 where there is none."""
        with self._engine.connect() as connection:
            newest = connection.execute(sa.select(sa.func.max(table.c.generation)).where(_of(scope))).scalar()
        return newest or 0

    def submissions(self, scope: Scope, generation: int) -> list[Submission]:
        """The submissions of a generation, by batch."""
        return self._select(_of(scope) & (table.c.generation == generation))

    def find(self, *, account: str | None = None, states: Iterable[State] | None = None) -> list[Submission]:
        """Submissions of all partitions, oldest first."""
        conditions: list[sa.ColumnElement[bool]] = []
        if account is not None:
            conditions.append(table.c.account == account)
        if states is not None:
            conditions.append(table.c.state.in_([state.value for state in states]))
        return self._select(sa.and_(sa.true(), *conditions))

    def get(self, submission_id: int) -> Submission:
        """One submission as it is now.

        Raises:
            LedgerError: there is none with this id.
        """
        found = self._select(table.c.id == submission_id)
        if not found:
            raise LedgerError(f"The ledger has no submission {submission_id}: `scrapedo-dagster jobs list` shows all.")
        return found[0]

    def count(self, account: str, states: Iterable[State]) -> int:
        """How many submissions of an account are in these states."""
        condition = (table.c.account == account) & table.c.state.in_([state.value for state in states])
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).where(condition)).scalar_one()

    def known_jobs(self, account: str) -> set[str]:
        """The ids of all jobs of an account that the ledger has ever recorded."""
        condition = (table.c.account == account) & table.c.job_id.is_not(None)
        with self._engine.connect() as connection:
            return set(connection.execute(sa.select(table.c.job_id).where(condition)).scalars())

    # --- writing: the named transitions

    def plan(
        self, scope: Scope, generation: int, batches: Sequence[Batch], *, fingerprint: str, run_id: str | None
    ) -> bool:
        """Record all batches of a new generation at once. False if another worker has begun this generation."""
        now = self.now()
        rows = [
            _planned(scope, generation, batch, 0, entries, fingerprint, run_id, now)
            for batch, entries in enumerate(batches)
        ]
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(table), rows)
        except IntegrityError:
            return False
        return True

    def continued(self, scope: Scope, generation: int, *, run_id: str | None) -> None:
        """Another run goes on with a generation: from now on it is this run's."""
        with self._engine.begin() as connection:
            same = _of(scope) & (table.c.generation == generation)
            connection.execute(sa.update(table).where(same).values(run_id=run_id))

    def claim(self, submission: Submission, *, run_id: str | None, fingerprint: str) -> Submission | None:
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

    def renew(self, submission: Submission) -> Submission:
        """Say before another attempt that this claim is alive.

        The claim gets another name: whoever has seen the old one, and takes its worker for dead, loses.
        """
        if submission.state != State.SUBMITTING:
            raise _illegal(submission, State.SUBMITTING)
        return self._move(submission, State.SUBMITTING, claim=uuid.uuid4().hex, claimed_at=self.now())

    def release(self, submission: Submission, reason: str) -> Submission:
        """Plan it again: it certainly is no job."""
        return self._move(submission, State.PLANNED, claim=None, reason=reason)

    def uncertain(self, submission: Submission, reason: str) -> Submission:
        """Its answer is lost: it may or may not be a job."""
        return self._move(submission, State.UNCERTAIN, reason=reason)

    def submitted(self, submission: Submission, job_id: str, task_ids: Sequence[str]) -> Submission:
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
            expires_at=now + RETENTION,
            reason=None,
        )

    def finished(self, submission: Submission) -> Submission:
        """Its job has ended, in whatever status; or it has nothing to send."""
        if submission.state == State.PLANNED and submission.targets:
            raise _illegal(submission, State.FINISHED)  # they would never be sent
        return self._move(submission, State.FINISHED, finished_at=self.now())

    def expired(self, submission: Submission, reason: str) -> Submission:
        """Its job is gone, and with it what was not collected."""
        return self._move(submission, State.EXPIRED, finished_at=self.now(), reason=reason)

    def canceled(self, submission: Submission, reason: str) -> Submission:
        """A person wanted it to stop."""
        return self._move(submission, State.CANCELED, claim=None, finished_at=self.now(), reason=reason)

    def collected(self, submission: Submission, *, credits_used: int, succeeded: int, again: Batch = ()) -> Submission:
        """Its rows are in Parquet, but for those of `again`: these are planned as a new batch in the same moment."""
        now = self.now()
        with self._engine.begin() as connection:
            moved = self._move_on(
                connection, submission, State.COLLECTED, collected_at=now, credits=credits_used, succeeded=succeeded
            )
            if again:
                same = _of(submission.scope) & (table.c.generation == submission.generation)
                last = connection.execute(sa.select(sa.func.max(table.c.batch)).where(same)).scalar_one()
                row = _planned(
                    submission.scope,
                    submission.generation,
                    last + 1,
                    submission.attempt + 1,
                    again,
                    submission.fingerprint,
                    submission.run_id,
                    now,
                )
                connection.execute(sa.insert(table), [row])
        return moved

    def _move(self, submission: Submission, to: State, **values: Any) -> Submission:
        try:
            with self._engine.begin() as connection:
                return self._move_on(connection, submission, to, **values)
        except IntegrityError as error:
            raise LostClaimError(
                f"Job {values.get('job_id')} belongs to another submission than {submission.id} ({submission.scope})."
            ) from error

    def _move_on(self, connection: sa.Connection, submission: Submission, to: State, **values: Any) -> Submission:
        if to not in FOLLOWERS[submission.state]:
            raise _illegal(submission, to)
        same_claim = table.c.claim.is_(None) if submission.claim is None else table.c.claim == submission.claim
        swapped = connection.execute(
            sa.update(table)
            .where((table.c.id == submission.id) & (table.c.state == submission.state.value) & same_claim)
            .values(state=to.value, **values)
        )
        if swapped.rowcount != 1:
            raise LostClaimError(
                f"Submission {submission.id} of {submission.scope} is no longer {submission.state.value}: "
                "another worker has moved it."
            )
        if "task_ids" in values:
            values["task_ids"] = tuple(values["task_ids"])
        return replace(submission, state=to, **values)

    def _select(self, condition: sa.ColumnElement[bool]) -> list[Submission]:
        order = (table.c.planned_at, table.c.generation, table.c.batch, table.c.id)
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(table).where(condition).order_by(*order)).mappings().all()
        return [_submission(row) for row in rows]

    @cached_property
    def _engine(self) -> sa.Engine:
        if self._url.get_backend_name() == "sqlite":
            engine = _sqlite(self._url)
        else:
            engine = sa.create_engine(self._url, pool_pre_ping=True)
        migrate(engine)
        return engine


def _use_wal(connection: Any) -> None:
    """Switch to WAL. SQLite does not wait for another process that is just switching, so that we do."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by itself, and too late
        _use_wal(connection)
        connection.execute(
            "PRAGMA synchronous=FULL"
        )  # a claim must survive a power cut: it is what keeps us from paying twice

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Readers do not write later, so that taking the lock at once costs little and cannot deadlock.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _illegal(submission: Submission, to: State) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"Submission {submission.id} of {submission.scope} cannot go from {submission.state.value} to {to.value}."
    )


def _of(scope: Scope) -> sa.ColumnElement[bool]:
    return (
        (table.c.account == scope.account)
        & (table.c.dataset == scope.dataset)
        & (table.c.partition == json.dumps(scope.partition))
    )


def _planned(
    scope: Scope,
    generation: int,
    batch: int,
    attempt: int,
    entries: Batch,
    fingerprint: str,
    run_id: str | None,
    now: datetime,
) -> dict[str, Any]:
    return {
        "account": scope.account,
        "dataset": scope.dataset,
        "partition": json.dumps(scope.partition),
        "generation": generation,
        "batch": batch,
        "attempt": attempt,
        "state": State.PLANNED.value,
        "entries": [[entry.position, entry.url, entry.key, entry.rejected] for entry in entries],
        "target_count": len({entry.url for entry in entries if entry.rejected is None}),
        "fingerprint": fingerprint,
        "run_id": run_id,
        "planned_at": now,
    }


def _submission(row: sa.RowMapping) -> Submission:
    values = dict(row)
    scope = Scope(values.pop("account"), values.pop("dataset"), json.loads(values.pop("partition")))
    values.pop("target_count")
    values["entries"] = tuple(Entry(*entry) for entry in values["entries"])
    values["task_ids"] = tuple(values["task_ids"] or ())
    values["state"] = State(values["state"])
    return Submission(scope=scope, **values)
