"""Decides in which order open jobs are polled: those that expire soon first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from scrapedo_dagster.engine.ledger.records import RETENTION, Submission
from scrapedo_dagster.engine.ledger.states import State

NEAR_EXPIRY = timedelta(days=1)
"""Results that expire within this time are collected even if other jobs of their generation are still running."""


def is_near_expiry(submission: Submission, now: datetime) -> bool:
    """Return whether Scrape.do deletes its results soon."""
    expires_at = submission.expires_at or (submission.claimed_at or submission.planned_at) + RETENTION
    return expires_at - now < NEAR_EXPIRY


def poll_order(submissions: Sequence[Submission], polled_through: int, now: datetime) -> list[Submission]:
    """Return the submitted ones in the order in which to poll them.

    Those near expiry come first, then those after `polled_through`, the id at which the last poll ended.
    """
    submitted = [each for each in submissions if each.state == State.SUBMITTED]
    return sorted(
        submitted,
        key=lambda each: (not is_near_expiry(each, now), each.id <= polled_through, each.id),
    )
