"""Alembic migrations of the ledger: one file a schema version, applied in place on first use."""
