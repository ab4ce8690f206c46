"""Names that the ledger and Alembic's entry share."""

VERSION_TABLE = "scrapedo_schema_version"
