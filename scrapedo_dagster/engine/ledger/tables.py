"""The tables of the ledger's database, as this release uses them. `migrations` creates and upgrades them."""

from __future__ import annotations

import json
import zlib
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa


class UtcTime(sa.types.TypeDecorator[datetime]):
    """Aware times in UTC, also on SQLite, which has no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


class CompressedJson(sa.types.TypeDecorator[Any]):
    """Compressed JSON: a thousand URLs take a few kilobytes."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> bytes | None:
        return None if value is None else zlib.compress(json.dumps(value, separators=(",", ":")).encode())

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(zlib.decompress(value))


metadata = sa.MetaData()

submissions = sa.Table(
    "scrapedo_submissions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # A fingerprint of the token, never the token.
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("dataset", sa.String(255), nullable=False),
    # JSON, since unique constraints ignore NULL: an unpartitioned dataset has the value `null`.
    sa.Column("partition", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("entries", CompressedJson, nullable=False),
    sa.Column("target_count", sa.Integer, nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("claim", sa.String(32)),
    sa.Column("job_id", sa.String(128)),
    sa.Column("task_ids", CompressedJson),
    sa.Column("run_id", sa.String(255)),
    sa.Column("reason", sa.Text),
    sa.Column("credits", sa.Integer),
    sa.Column("succeeded", sa.Integer),
    sa.Column("planned_at", UtcTime, nullable=False),
    sa.Column("claimed_at", UtcTime),
    sa.Column("submitted_at", UtcTime),
    sa.Column("finished_at", UtcTime),
    sa.Column("collected_at", UtcTime),
    sa.Column("expires_at", UtcTime),
    sa.UniqueConstraint("account", "dataset", "partition", "generation", "batch", name="scrapedo_one_batch"),
    sa.UniqueConstraint("account", "job_id", name="scrapedo_one_job"),
    sa.Index("scrapedo_by_state", "account", "state"),
)

generations = sa.Table(
    "scrapedo_generations",
    metadata,
    # The same values as in the table of submissions.
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("dataset", sa.String(255), primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("completed_at", UtcTime),
    sa.Column("confirmed_at", UtcTime),
    sa.Column("collect_key", sa.String(64)),
    sa.Column("collect_attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("collect_after", UtcTime),
    # How an ad-hoc list is scraped. Never holds a secret.
    sa.Column("recorded_options", sa.JSON(none_as_null=True)),
)

# Webhook deliveries that are not collected yet.
inbox = sa.Table(
    "scrapedo_inbox",
    metadata,
    sa.Column("submission", sa.String(255), primary_key=True),
    sa.Column("job_id", sa.String(255), primary_key=True),
    sa.Column("task_id", sa.String(255), primary_key=True),
    # Whether the ledger knew the submission when it was delivered.
    sa.Column("known", sa.Boolean, nullable=False),
    sa.Column("received_at", UtcTime, nullable=False),
    # JSON, compressed by zstd.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("scrapedo_inbox_by_age", "known", "received_at"),
)
