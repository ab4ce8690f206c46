"""Alembic's entry point: migrates over the connection that the ledger has opened."""

from alembic import context

from scrapedo_dagster.engine.ledger.migrations.names import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
