"""The table of submissions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table of submissions."""
    op.create_table(
        "scrapedo_submissions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sa.Column("target_count", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("claim", sa.String(32)),
        sa.Column("job_id", sa.String(128)),
        sa.Column("task_ids", sa.LargeBinary),
        sa.Column("run_id", sa.String(255)),
        sa.Column("reason", sa.Text),
        sa.Column("credits", sa.Integer),
        sa.Column("succeeded", sa.Integer),
        sa.Column("planned_at", _TIME, nullable=False),
        sa.Column("claimed_at", _TIME),
        sa.Column("submitted_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("collected_at", _TIME),
        sa.Column("expires_at", _TIME),
        sa.UniqueConstraint("account", "dataset", "partition", "generation", "batch", name="scrapedo_one_batch"),
        sa.UniqueConstraint("account", "job_id", name="scrapedo_one_job"),
    )
    op.create_index("scrapedo_by_state", "scrapedo_submissions", ["account", "state"])
