"""The inbox as a table in the ledger's database."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from scrapedo_dagster.engine.inbox.packing import HEAD, TRIAL, pack, unpack, unpacked_size
from scrapedo_dagster.engine.inbox.protocol import Arrival, Delivery, QuarantineUsage
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.tables import inbox as table
from scrapedo_dagster.engine.storage.atomic_files import safe_name

_READY = "_ready"
_NAMES = (table.c.submission, table.c.job_id, table.c.task_id)


class TableInbox:
    """The inbox of a ledger."""

    writers = 1  # what waits meanwhile goes into one transaction, and is synced once

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __repr__(self) -> str:
        return f"TableInbox({self._ledger!r})"

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """See `Inbox`. One transaction: all are stored, or none."""
        if not deliveries:
            return []
        names = [(each.key, each.job_id, each.task_id) for each in deliveries]
        packed = dict(zip(reversed(names), (pack(each.body) for each in reversed(deliveries)), strict=True))
        now = self._ledger.now()
        with self._engine.begin() as connection:
            there = connection.execute(sa.select(*_NAMES).where(sa.tuple_(*_NAMES).in_(names)))
            new = packed.keys() - {tuple(row) for row in there}
            # Sorted: receivers that store the same in another order could wait for each other.
            _insert(connection, [_row(*each, known=True, received_at=now, body=packed[each]) for each in sorted(new)])
        return [each in new and names.index(each) == number for number, each in enumerate(names)]

    def quarantine(self, delivery: Delivery) -> bool:
        """See `Inbox`."""
        if self.quarantine_usage().is_full:
            return False
        row = _row(
            safe_name(delivery.key),
            delivery.job_id,
            delivery.task_id,
            known=False,
            received_at=self._ledger.now(),
            body=pack(delivery.body),
        )
        with self._engine.begin() as connection:
            _insert(connection, [row])
        return True

    def news(self, keys: Collection[str]) -> dict[str, frozenset[Arrival]]:
        """See `Inbox`. Reads an index only."""
        query = sa.select(table.c.submission, table.c.job_id, table.c.task_id).where(table.c.submission.in_(list(keys)))
        found: dict[str, set[Arrival]] = {}
        with self._engine.connect() as connection:
            for key, job_id, task_id in connection.execute(query):
                found.setdefault(key, set()).add(Arrival(job_id, task_id))
        return {key: frozenset(arrivals) for key, arrivals in found.items()}

    def size(self, key: str, job_id: str, task_id: str) -> int | None:
        """See `Inbox`."""
        start = self._select(sa.func.substr(table.c.body, 1, HEAD, type_=sa.LargeBinary), key, job_id, task_id)
        return None if start is None else unpacked_size(start)

    def read(self, key: str, job_id: str, task_id: str) -> bytes | None:
        """See `Inbox`."""
        packed = self._select(table.c.body, key, job_id, task_id)
        return None if packed is None else unpack(packed)

    def _select(self, what: sa.ColumnElement[bytes], key: str, job_id: str, task_id: str) -> bytes | None:
        same = (table.c.submission == key) & (table.c.job_id == job_id) & (table.c.task_id == task_id)
        with self._engine.connect() as connection:
            return connection.execute(sa.select(what).where(same)).scalar()

    def remove(self, key: str) -> None:
        """See `Inbox`."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.submission == key))

    def prune(self, older_than: timedelta) -> int:
        """See `Inbox`."""
        # Both values of `known`, so that the index is used.
        stale = table.c.known.in_([True, False]) & (table.c.received_at < self._ledger.now() - older_than)
        with self._engine.begin() as connection:
            return connection.execute(sa.delete(table).where(stale)).rowcount

    def quarantine_usage(self) -> QuarantineUsage:
        """See `Inbox`."""
        size = sa.func.coalesce(sa.func.sum(sa.func.length(table.c.body)), 0)
        query = sa.select(sa.func.count(), size).where(table.c.known.is_(False))
        with self._engine.connect() as connection:
            deliveries, size_of_all = connection.execute(query).one()
        return QuarantineUsage(deliveries, int(size_of_all))

    def check(self) -> None:
        """See `Inbox`. Writes a row, and removes it."""
        row = _row(_READY, "", uuid.uuid4().hex, known=False, received_at=self._ledger.now(), body=os.urandom(TRIAL))
        with self._engine.begin() as connection:
            _insert(connection, [row])
            connection.execute(sa.delete(table).where(table.c.submission == _READY, table.c.task_id == row["task_id"]))

    def close(self) -> None:
        """See `Inbox`. The ledger is its owner's to close."""

    @property
    def _engine(self) -> sa.Engine:
        return self._ledger.engine


def _row(submission: str, job_id: str, task_id: str, **values: object) -> dict[str, object]:
    return {"submission": submission, "job_id": job_id, "task_id": task_id, **values}


def _insert(connection: sa.Connection, rows: list[dict[str, object]]) -> None:
    """Rows whose names are there already stay as they are."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), rows)
