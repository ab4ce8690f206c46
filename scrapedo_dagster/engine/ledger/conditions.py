"""Conditions of queries that both stores use."""

from __future__ import annotations

import json

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.tables import generations, submissions

PARTITION_COLUMNS = ("account", "dataset", "partition")


def in_generation(table: sa.Table, ref: PartitionRef, generation: int) -> sa.ColumnElement[bool]:
    """The rows of one generation."""
    return in_partition(table, ref) & (table.c.generation == generation)


def in_partition(table: sa.Table, ref: PartitionRef) -> sa.ColumnElement[bool]:
    """The rows of one partition."""
    return (
        (table.c.account == ref.account)
        & (table.c.dataset == ref.dataset)
        & (table.c.partition == json.dumps(ref.partition))
    )


def is_superseded(table: sa.Table) -> sa.ColumnElement[bool]:
    """The rows of generations that are not the newest of their partition."""
    newer = generations.alias()
    return sa.exists().where(
        *(newer.c[name] == table.c[name] for name in PARTITION_COLUMNS), newer.c.generation > table.c.generation
    )


def is_canceled(table: sa.Table) -> sa.ColumnElement[bool]:
    """The rows of generations with a canceled submission."""
    canceled = submissions.alias()
    return sa.exists().where(
        *(canceled.c[name] == table.c[name] for name in (*PARTITION_COLUMNS, "generation")),
        canceled.c.state == State.CANCELED.value,
    )
