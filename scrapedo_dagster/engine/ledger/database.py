"""The database of the ledger: SQLite for one machine, or any other that SQLAlchemy reaches."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.migrate import migrate

_BUSY_SECONDS = 60  # to wait for another process that is writing to a SQLite ledger


def open_database(url: sa.URL) -> sa.Engine:
    """The database at a URL, with the schema of this release."""
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else sa.create_engine(url, pool_pre_ping=True)
    migrate(engine)
    return engine


def _use_wal(connection: Any) -> None:
    """Switch to WAL. SQLite does not wait for another process that is just switching, so that we do."""
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
