"""The ledger: the durable record of submissions, written before and after everything that costs money."""

from __future__ import annotations

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.database import ROWS_PER_STATEMENT, Database
from scrapedo_dagster.engine.ledger.generations import GenerationStore
from scrapedo_dagster.engine.ledger.submissions import SubmissionStore


class Ledger(Database):
    """The ledger at a SQLAlchemy URL: `sqlite:////path/ledger.db` or `postgresql+psycopg://user@host/database`.

    Every change is a named transition that compares the state before it swaps it, so that two workers on one
    partition cannot both submit a batch.

    Attributes:
        submissions: one row a batch.
        generations: one row a scrape of a partition.
    """

    def __init__(self, url: str | sa.URL, *, rows_per_statement: int = ROWS_PER_STATEMENT) -> None:
        super().__init__(url, rows_per_statement=rows_per_statement)
        self.submissions = SubmissionStore(self)
        self.generations = GenerationStore(self)
