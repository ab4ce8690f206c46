"""The life of a submission: its states, and which follow which."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """Where a submission is.

    ```
    planned -> submitting -> submitted -> finished -> collected
                 |-> uncertain -> submitted (adopted) | planned (certainly not there)
    any of the first five -> canceled | failed | expired;    expired -> collected
    canceled -> finished: it is gone on with, and what of it was not done is planned as another batch
    ```
    """

    PLANNED = "planned"
    SUBMITTING = "submitting"
    UNCERTAIN = "uncertain"
    SUBMITTED = "submitted"
    FINISHED = "finished"
    COLLECTED = "collected"
    CANCELED = "canceled"
    FAILED = "failed"
    EXPIRED = "expired"


_ENDS = {State.CANCELED, State.FAILED, State.EXPIRED}

TRANSITIONS: dict[State, frozenset[State]] = {
    # Without a valid target there is nothing to submit: such a batch is finished as it is planned.
    State.PLANNED: frozenset({State.SUBMITTING, State.FINISHED, *_ENDS}),
    # Back to planned: the service refused, or was never reached. To itself: the claim is renewed before each attempt.
    State.SUBMITTING: frozenset({State.SUBMITTING, State.SUBMITTED, State.UNCERTAIN, State.PLANNED, *_ENDS}),
    State.UNCERTAIN: frozenset({State.SUBMITTED, State.PLANNED, *_ENDS}),
    State.SUBMITTED: frozenset({State.FINISHED, *_ENDS}),
    State.FINISHED: frozenset({State.COLLECTED, *_ENDS}),
    State.EXPIRED: frozenset({State.COLLECTED}),
    State.COLLECTED: frozenset(),
    State.CANCELED: frozenset({State.FINISHED}),
    State.FAILED: frozenset(),
}

UNSENT = frozenset({State.PLANNED, State.SUBMITTING, State.UNCERTAIN})
"""It is not known to be a job yet."""

CANCELABLE = UNSENT | {State.SUBMITTED}
"""What is there to be stopped: a job that goes on, or may."""

OPEN = UNSENT | {State.SUBMITTED, State.FINISHED, State.EXPIRED}
"""Its outcome is not in Parquet yet: a generation with such a submission is continued, not begun anew."""
