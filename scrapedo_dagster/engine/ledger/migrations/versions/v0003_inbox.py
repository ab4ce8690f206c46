"""The table of webhook deliveries, used if no other place is configured for them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of deliveries."""
    op.create_table(
        "scrapedo_inbox",
        sa.Column("submission", sa.String(255), primary_key=True),
        sa.Column("job_id", sa.String(255), primary_key=True),
        sa.Column("task_id", sa.String(255), primary_key=True),
        sa.Column("known", sa.Boolean, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("scrapedo_inbox_by_age", "scrapedo_inbox", ["known", "received_at"])
