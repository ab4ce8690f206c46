"""Where a ledger is: its default place, and who can reach it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from scrapedo_dagster.engine.errors import LedgerUrlError


def parse_url(url: str | sa.URL) -> sa.URL:
    """The URL of a ledger.

    Raises:
        LedgerUrlError: it is none.
    """
    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError):
        # From None: the cause repeats the text.
        raise LedgerUrlError(
            "ledger_url is no SQLAlchemy URL, such as sqlite:////path/ledger.db or "
            "postgresql+psycopg://user:password@host/database."
        ) from None


def default_url(dagster_home: str | Path) -> sa.URL:
    """The SQLite file that is the ledger where none is named."""
    return sa.URL.create("sqlite", database=str(Path(dagster_home).absolute() / "scrapedo" / "ledger.db"))


def is_on_this_machine(url: sa.URL) -> bool:
    """Whether processes on other machines cannot reach it."""
    return url.get_backend_name() == "sqlite"
