"""The database of the ledger: SQLite for one machine, or any other that SQLAlchemy reaches."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.migrate import migrate
from scrapedo_dagster.engine.ledger.url import parse_url

ROWS_PER_STATEMENT = 500
"""Rows that one statement names. Old releases of SQLite take 999 parameters."""

_BUSY_SECONDS = 60  # to wait for another process that is writing to a SQLite ledger

Item = TypeVar("Item")


class Database:
    """A connection pool that opens, creates and upgrades the ledger's database on first use.

    Safe to share between threads; each process needs its own.

    Args:
        url: a SQLAlchemy URL.
        rows_per_statement: how many rows one statement changes or reads by name.

    Raises:
        LedgerUrlError: `url` is not a SQLAlchemy URL.
    """

    def __init__(self, url: str | sa.URL, *, rows_per_statement: int = ROWS_PER_STATEMENT) -> None:
        self.url = parse_url(url)
        self._rows_per_statement = rows_per_statement

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url.render_as_string(hide_password=True)!r})"

    @cached_property
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine, with the schema of this release."""
        engine = create_engine(self.url)
        migrate(engine)
        return engine

    def close(self) -> None:
        """Close the connections. The next use opens new ones."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    def now(self) -> datetime:
        """Return the time in UTC: the database server's, which all machines share, or this machine's for SQLite."""
        if self.engine.dialect.name == "sqlite":
            return datetime.now(timezone.utc)
        with self.engine.connect() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now.astimezone(timezone.utc)

    def chunks(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Split items into parts that one statement can name."""
        return (
            items[first : first + self._rows_per_statement] for first in range(0, len(items), self._rows_per_statement)
        )

    def swap(
        self, key: sa.Column[Any], keys: Iterable[Any], as_seen: sa.ColumnElement[bool], values: dict[str, Any]
    ) -> set[Any]:
        """Update the rows with these keys that are still as they were seen, in one transaction. Return their keys."""
        with self.engine.begin() as connection:
            ours = set(connection.execute(locked(key, as_seen & key.in_(list(keys)))).scalars())
            connection.execute(sa.update(key.table).where(as_seen & key.in_(ours)).values(values))
        return ours


def locked(key: sa.Column[Any], condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Select and lock rows in the order of their key, so that two workers with the same rows do not deadlock."""
    return sa.select(key).where(condition).order_by(key).with_for_update()


def create_engine(url: sa.URL) -> sa.Engine:
    """Create a SQLAlchemy engine that waits for other writers. The schema stays as it is."""
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by itself, and too late
        _use_wal(connection)
        # A claim must survive a power cut: it prevents paying twice.
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Taking the write lock at once cannot deadlock, and costs readers little.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: Any) -> None:
    """Switch to WAL. SQLite's own timeout does not cover waiting for another process that switches."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            return
