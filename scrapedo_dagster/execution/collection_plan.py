"""Decides which generations the completion sensor has collected. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from scrapedo_dagster.engine.collection.run_retry_schedule import NextAction, has_results_near_expiry, next_action
from scrapedo_dagster.engine.ledger.records import GenerationRecord, Submission
from scrapedo_dagster.engine.ledger.states import UNSENT
from scrapedo_dagster.execution.tick_session import Unconfirmed

ByPartition: TypeAlias = dict[str | None, GenerationRecord]


class ActiveRuns(Protocol):
    """Which runs are active, by the id of their root run."""

    def is_active(self, root_run_id: str | None) -> bool:
        """Return whether a run or a retry of it has not ended."""

    def is_active_and_collects(self, root_run_id: str | None) -> bool:
        """Return whether it also collects what it submits."""


def unowned_generations(
    generations: Unconfirmed, runs: ActiveRuns, collecting: Collection[str | None], now: datetime
) -> Unconfirmed:
    """Return the generations that no active run submits or collects.

    Those with results near expiry count as unowned in any case: a run that has not collected them by now is dead, or
    waits too long.

    Args:
        generations: of one dataset.
        runs: the active runs.
        collecting: partitions of the dataset that active runs collect.
        now: by the ledger's clock.
    """
    return {
        record: batches
        for record, batches in generations.items()
        if has_results_near_expiry(batches, now) or not _is_owned(record, batches, runs, collecting)
    }


def _is_owned(
    record: GenerationRecord, batches: Sequence[Submission], runs: ActiveRuns, collecting: Collection[str | None]
) -> bool:
    return record.ref.partition in collecting or any(
        runs.is_active_and_collects(each.run_id) or (each.state in UNSENT and runs.is_active(each.run_id))
        for each in batches
    )


def group_by_action(generations: Unconfirmed, now: datetime) -> dict[NextAction, ByPartition]:
    """Group unowned generations of one dataset by their next action."""
    actions: dict[NextAction, ByPartition] = {action: {} for action in NextAction}
    for record, batches in generations.items():
        actions[next_action(record, batches, now)][record.ref.partition] = record
    return actions
