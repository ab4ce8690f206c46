"""Places of a ledger on each database."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.postgres import postgres_schema


@pytest.fixture(params=["sqlite", "postgres"])
def any_ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on SQLite and on Postgres."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return postgres_schema(request.getfixturevalue("postgres"), f"t{uuid4().hex}")
