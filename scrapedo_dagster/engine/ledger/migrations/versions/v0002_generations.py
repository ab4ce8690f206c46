"""The table of generations: one row each, with what the completion sensor has done for it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table of generations, with those of the existing submissions."""
    op.create_table(
        "scrapedo_generations",
        sa.Column("account", sa.String(32), primary_key=True),
        sa.Column("dataset", sa.String(255), primary_key=True),
        sa.Column("partition", sa.Text, primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("completed_at", _TIME),
        sa.Column("collect_key", sa.String(64)),
        sa.Column("collect_attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("collect_after", _TIME),
    )
    # A run that collected every submission has most often completed the files too. If it died before that, its
    # partition failed in Dagster, and the next run completes the files.
    op.execute(
        """
        insert into scrapedo_generations (account, dataset, partition, generation, completed_at)
        select account, dataset, partition, generation,
               case when min(case when state = 'collected' then 1 else 0 end) = 1 then max(collected_at) end
        from scrapedo_submissions
        group by account, dataset, partition, generation
        """
    )
