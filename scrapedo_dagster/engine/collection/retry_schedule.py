"""What there is to do about a generation that nobody is working on. Decides only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum

from scrapedo_dagster.engine.ledger.records import GenerationRecord, Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import is_near_expiry

ATTEMPTS = 12
"""Collecting runs that are asked for before a person has to look: over about eight hours."""

LAST_ATTEMPTS = 36
"""All that are asked for, if nobody has looked and the results are about to be deleted: one an hour of the last day."""

_FIRST_DELAY = timedelta(minutes=1)
_LONGEST_DELAY = timedelta(hours=1)
_UNENDED = {State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED}  # what is not known to be a job is reconciled first


class Need(Enum):
    """What a generation needs."""

    WAITING = "its jobs have to end"
    COLLECTING = "a run has to bring it home"
    LATER = "a collecting run has failed and the next one is not due yet"
    INTERVENTION = "too many collecting runs have failed"


def need_of(record: GenerationRecord, batches: Sequence[Submission], now: datetime) -> Need:
    """What a generation needs that no run is working on."""
    if record.completed_at is None and not _can_be_collected(batches, now):
        return Need.WAITING
    if record.collect_attempts >= (LAST_ATTEMPTS if may_be_lost(batches, now) else ATTEMPTS):
        return Need.INTERVENTION
    if record.collect_after is not None and now < record.collect_after:
        return Need.LATER
    return Need.COLLECTING


def _can_be_collected(batches: Sequence[Submission], now: datetime) -> bool:
    # All have ended; or some were never sent, which whoever collects does.
    return may_be_lost(batches, now) or not any(each.state in _UNENDED for each in batches)


def may_be_lost(batches: Sequence[Submission], now: datetime) -> bool:
    """Whether there are results that are deleted soon."""
    return any(each.state == State.FINISHED and is_near_expiry(each, now) for each in batches)


def delay_after(attempts: int) -> timedelta:
    """How long after a collecting run was asked for, as the so many-th before it, the next one may be."""
    return min(_FIRST_DELAY * (1 << attempts), _LONGEST_DELAY)
