"""Decides when an unowned generation gets a collecting run, and when a person has to intervene. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum

from scrapedo_dagster.engine.ledger.records import GenerationRecord, Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import is_near_expiry

MAX_ATTEMPTS = 12
"""Collecting runs that are requested before a person has to intervene: over about eight hours."""

MAX_ATTEMPTS_NEAR_EXPIRY = 36
"""Collecting runs that are requested if nobody intervenes and results are deleted soon: one an hour of the last day."""

FIRST_DELAY = timedelta(minutes=1)
MAX_DELAY = timedelta(hours=1)
_UNENDED = {State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED}  # a batch that may be a job is reconciled first


class NextAction(Enum):
    """The next action for an unowned generation."""

    WAIT = "its jobs have not ended"
    COLLECT = "a run has to collect it"
    RETRY_LATER = "a collecting run failed, and the next one is not due yet"
    INTERVENE = "too many collecting runs failed"


def next_action(record: GenerationRecord, batches: Sequence[Submission], now: datetime) -> NextAction:
    """Decide the next action for a generation that no run is collecting."""
    near_expiry = has_results_near_expiry(batches, now)
    # Unsent batches do not delay a collecting run: it sends them.
    is_waiting = any(each.state in _UNENDED for each in batches)
    if record.completed_at is None and is_waiting and not near_expiry:
        return NextAction.WAIT
    if record.collect_attempts >= (MAX_ATTEMPTS_NEAR_EXPIRY if near_expiry else MAX_ATTEMPTS):
        return NextAction.INTERVENE
    if record.collect_after is not None and now < record.collect_after:
        return NextAction.RETRY_LATER
    return NextAction.COLLECT


def has_results_near_expiry(batches: Sequence[Submission], now: datetime) -> bool:
    """Return whether some results are deleted soon."""
    return any(each.state == State.FINISHED and is_near_expiry(each, now) for each in batches)


def delay_after(attempts: int) -> timedelta:
    """Return the delay of the next collecting run, after so many earlier ones."""
    return min(FIRST_DELAY * (1 << attempts), MAX_DELAY)
