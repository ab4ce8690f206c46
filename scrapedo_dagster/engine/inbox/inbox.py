"""The inbox: a table of deliveries in the ledger's database.

Polling stays the source of truth. An inbox that is empty, or cannot be reached, only costs the requests that fetch the
tasks from Scrape.do.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from scrapedo_dagster.engine.inbox.compression import HEADER_SIZE, compress, decompress, uncompressed_size
from scrapedo_dagster.engine.inbox.deliveries import Arrival, Delivery
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.tables import inbox as table
from scrapedo_dagster.engine.storage.atomic_files import safe_name

KEEP_FOR = timedelta(days=7)
"""How long a delivery waits to be collected: longer than Scrape.do keeps results, because here they are safe."""

_QUARANTINE = "quarantine/"  # before the key: no submission has such a one
_CHECK_KEY = "_ready"
_CHECK_SIZE = 64 * 1024  # bytes; a full disk may still have room for a few
_PRIMARY_KEY = (table.c.submission, table.c.job_id, table.c.task_id)


@dataclass(frozen=True)
class QuarantineLimits:
    """How many deliveries, and how many compressed bytes, are quarantined at most."""

    deliveries: int = 1000
    bytes: int = 64 * 2**20


@dataclass(frozen=True)
class QuarantineUsage:
    """How many deliveries, and how many compressed bytes, are quarantined."""

    deliveries: int
    bytes: int


class Inbox:
    """Stores deliveries by submission, job and task, each once. Safe to share between threads.

    A reader asks for the tasks of a job by the ids that the ledger has. It never sees what was delivered under a
    submission's key for another job: a replay, or an id that a lost ledger had used before.

    Every method raises SQLAlchemyError if the database cannot be used.
    """

    def __init__(self, ledger: Ledger, quarantine_limits: QuarantineLimits = QuarantineLimits()) -> None:
        self._ledger = ledger
        self._limits = quarantine_limits

    def __repr__(self) -> str:
        return f"Inbox({self._ledger!r})"

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Store deliveries in one transaction. They survive a power cut.

        Returns:
            For each delivery whether it was stored: False if there was one of the same name, which stays.
        """
        if not deliveries:
            return []
        names = [(each.key, each.job_id, each.task_id) for each in deliveries]
        # Reversed: of two with one name, the first is stored.
        bodies = {name: compress(each.body) for name, each in zip(reversed(names), reversed(deliveries), strict=True)}
        now = self._ledger.now()
        with self._ledger.engine.begin() as connection:
            stored = connection.execute(sa.select(*_PRIMARY_KEY).where(sa.tuple_(*_PRIMARY_KEY).in_(names)))
            new = bodies.keys() - {tuple(row) for row in stored}
            _insert(connection, [_row(*name, bodies[name], known=True, received_at=now) for name in new])
        return [name in new and names.index(name) == number for number, name in enumerate(names)]

    def quarantine(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Store deliveries of unknown submissions in one transaction.

        Returns:
            For each delivery whether it was stored: False if the quarantine is full.
        """
        if not deliveries:
            return []
        now, usage, rows = self._ledger.now(), self.quarantine_usage(), list[dict[str, object]]()
        for each in deliveries:
            if usage.deliveries >= self._limits.deliveries or usage.bytes >= self._limits.bytes:
                break
            body = compress(each.body)
            key = safe_name(each.key, prefix=_QUARANTINE)
            rows.append(_row(key, each.job_id, each.task_id, body, known=False, received_at=now))
            usage = QuarantineUsage(usage.deliveries + 1, usage.bytes + len(body))
        with self._ledger.engine.begin() as connection:
            _insert(connection, rows)
        return [number < len(rows) for number in range(len(deliveries))]

    def arrivals(self, keys: Collection[str]) -> dict[str, frozenset[Arrival]]:
        """Return what was delivered for these submissions, by key, without those that have none. Reads an index."""
        query = sa.select(*_PRIMARY_KEY).where(table.c.submission.in_(list(keys)))
        found: dict[str, set[Arrival]] = {}
        with self._ledger.engine.connect() as connection:
            for key, job_id, task_id in connection.execute(query):
                found.setdefault(key, set()).add(Arrival(job_id, task_id))
        return {key: frozenset(arrivals) for key, arrivals in found.items()}

    def size(self, key: str, job_id: str, task_id: str) -> int | None:
        """Return how many bytes `read` returns, without reading them, or None if it returns None."""
        header = sa.func.substr(table.c.body, 1, HEADER_SIZE, type_=sa.LargeBinary)
        compressed = self._select(header, key, job_id, task_id)
        return None if compressed is None else uncompressed_size(compressed)

    def read(self, key: str, job_id: str, task_id: str) -> bytes | None:
        """Return the JSON of a task, or None if it was not delivered or is damaged."""
        compressed = self._select(table.c.body, key, job_id, task_id)
        return None if compressed is None else decompress(compressed)

    def remove(self, key: str) -> None:
        """Delete the deliveries of a submission."""
        with self._ledger.engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.submission == key))

    def prune(self, older_than: timedelta = KEEP_FOR) -> int:
        """Delete the deliveries, quarantined or not, that are older. Returns how many those were."""
        # Both values of `known`, so that the index is used.
        stale = table.c.known.in_([True, False]) & (table.c.received_at < self._ledger.now() - older_than)
        with self._ledger.engine.begin() as connection:
            return connection.execute(sa.delete(table).where(stale)).rowcount

    def quarantine_usage(self) -> QuarantineUsage:
        """Return how much is quarantined."""
        size = sa.func.coalesce(sa.func.sum(sa.func.length(table.c.body)), 0)
        query = sa.select(sa.func.count(), size).where(table.c.known.is_(False))
        with self._ledger.engine.connect() as connection:
            deliveries, total = connection.execute(query).one()
        return QuarantineUsage(deliveries, int(total))

    def check(self) -> None:
        """Write a row and delete it, so that an error is raised if nothing can be stored now."""
        task_id = uuid.uuid4().hex
        row = _row(_CHECK_KEY, "", task_id, os.urandom(_CHECK_SIZE), known=False, received_at=self._ledger.now())
        with self._ledger.engine.begin() as connection:
            _insert(connection, [row])
            connection.execute(sa.delete(table).where(table.c.submission == _CHECK_KEY, table.c.task_id == task_id))

    def _select(self, column: sa.ColumnElement[bytes], key: str, job_id: str, task_id: str) -> bytes | None:
        named = (table.c.submission == key) & (table.c.job_id == job_id) & (table.c.task_id == task_id)
        with self._ledger.engine.connect() as connection:
            return connection.execute(sa.select(column).where(named)).scalar()


def _row(submission: str, job_id: str, task_id: str, body: bytes, **values: object) -> dict[str, object]:
    return {"submission": submission, "job_id": job_id, "task_id": task_id, "body": body, **values}


def _insert(connection: sa.Connection, rows: list[dict[str, object]]) -> None:
    """Insert rows. Those whose name is taken are left out."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    if rows:
        # Sorted: receivers that store the same deliveries in another order could deadlock.
        rows = sorted(rows, key=lambda row: [row[column.name] for column in _PRIMARY_KEY])
        connection.execute(insert(table).on_conflict_do_nothing(), rows)
