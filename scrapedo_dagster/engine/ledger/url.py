"""URLs of ledgers."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from scrapedo_dagster.engine.errors import LedgerUrlError


def parse_url(url: str | sa.URL) -> sa.URL:
    """Parse the URL of a ledger.

    Raises:
        LedgerUrlError: it is not a SQLAlchemy URL.
    """
    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError):
        # From None: the message of the cause repeats the URL, which may hold a password.
        raise LedgerUrlError(
            "ledger_url is not a SQLAlchemy URL. Give one such as sqlite:////path/ledger.db or "
            "postgresql+psycopg://user:password@host/database."
        ) from None


def default_url(dagster_home: str | Path) -> sa.URL:
    """Return the URL of the SQLite file that is used if no ledger is configured."""
    return sa.URL.create("sqlite", database=str(Path(dagster_home).absolute() / "scrapedo" / "ledger.db"))


def is_on_this_machine(url: sa.URL) -> bool:
    """Return whether processes on other machines cannot reach the ledger."""
    return url.get_backend_name() == "sqlite"
