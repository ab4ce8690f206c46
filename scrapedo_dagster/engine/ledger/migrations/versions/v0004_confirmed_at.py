"""Confirmation gets a column of its own, and so do the options of ad-hoc lists."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Split `collect_key`, which marked complete generations that Dagster might not know of, into two columns."""
    op.add_column("scrapedo_generations", sa.Column("confirmed_at", sa.DateTime(timezone=True)))
    op.add_column("scrapedo_generations", sa.Column("recorded_options", sa.JSON))
    op.execute(
        """
        update scrapedo_generations set confirmed_at = completed_at
        where completed_at is not null and collect_key is null
        """
    )
    op.execute(
        """
        update scrapedo_generations set collect_key = null
        where collect_key = 'of a run that nobody asked the ledger for'
        """
    )
    # No release has set this state. It meant the same: a person has to submit again.
    op.execute("update scrapedo_submissions set state = 'canceled' where state = 'failed'")
