"""Upgrades a database to the schema of this release, with Alembic."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from scrapedo_dagster.engine.errors import LedgerSchemaError

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 7_423_511_902  # any number, as long as all releases use the same


def migrate(engine: sa.Engine, revision: str = "head", *, migrations: Path = MIGRATIONS) -> None:
    """Create or upgrade the ledger's schema. Processes that do so at the same time wait for each other.

    Args:
        engine: of the database.
        revision: the schema version to upgrade to.
        migrations: Alembic's directory.

    Raises:
        LedgerSchemaError: a newer release has upgraded the database.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # On SQLite, the transaction begins with the write lock.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            raise LedgerSchemaError(
                f"The ledger at {engine.url.render_as_string(hide_password=True)} was written by a newer release of "
                f"scrapedo-dagster ({error}). Upgrade scrapedo-dagster here too."
            ) from error
