"""In which order open jobs are polled: those near expiry first. Decides only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from scrapedo_dagster.engine.ledger.records import RETENTION, Submission
from scrapedo_dagster.engine.ledger.states import State

NEAR_EXPIRY = timedelta(days=1)
"""Results that expire so soon are collected although others of their generation are still being made."""


def is_near_expiry(batch: Submission, now: datetime) -> bool:
    """Whether its results are deleted soon."""
    expires_at = batch.expires_at or (batch.claimed_at or batch.planned_at) + RETENTION
    return expires_at - now < NEAR_EXPIRY


def in_turn(batches: Sequence[Submission], polled_through: int, now: datetime) -> list[Submission]:
    """The order in which to look at submitted batches: near expiry first, then from where the last look ended."""
    submitted = [each for each in batches if each.state == State.SUBMITTED]
    return sorted(
        submitted,
        key=lambda each: (not is_near_expiry(each, now), each.id <= polled_through, each.id),
    )
