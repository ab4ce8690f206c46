"""Names that the ledger and `env.py` share."""

VERSION_TABLE = "scrapedo_schema_version"
