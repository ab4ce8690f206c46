"""The states of a submission, and the transitions between them."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """State of a submission.

    ```
    planned -> submitting -> submitted -> finished -> collected
                 |-> uncertain -> submitted (adopted) | planned (it certainly did not arrive)
    any of the first five -> canceled | expired;    expired -> collected
    canceled -> finished: it is resumed, and its unfinished targets are planned as another batch
    ```
    """

    PLANNED = "planned"
    SUBMITTING = "submitting"
    UNCERTAIN = "uncertain"
    SUBMITTED = "submitted"
    FINISHED = "finished"
    COLLECTED = "collected"
    CANCELED = "canceled"
    EXPIRED = "expired"


_ENDS = {State.CANCELED, State.EXPIRED}

TRANSITIONS: dict[State, frozenset[State]] = {
    # A batch without a valid target has nothing to submit, and goes from planned to finished.
    State.PLANNED: frozenset({State.SUBMITTING, State.FINISHED, *_ENDS}),
    # To planned: the service refused, or was not reached. To submitting: the claim is renewed before each attempt.
    State.SUBMITTING: frozenset({State.SUBMITTING, State.SUBMITTED, State.UNCERTAIN, State.PLANNED, *_ENDS}),
    State.UNCERTAIN: frozenset({State.SUBMITTED, State.PLANNED, *_ENDS}),
    State.SUBMITTED: frozenset({State.FINISHED, *_ENDS}),
    State.FINISHED: frozenset({State.COLLECTED, *_ENDS}),
    State.EXPIRED: frozenset({State.COLLECTED}),
    State.COLLECTED: frozenset(),
    State.CANCELED: frozenset({State.FINISHED}),
}

UNSENT = frozenset({State.PLANNED, State.SUBMITTING, State.UNCERTAIN})
"""Not known to be a job yet."""

CANCELABLE = UNSENT | {State.SUBMITTED}
"""A job that runs, or may run later."""

OPEN = UNSENT | {State.SUBMITTED, State.FINISHED, State.EXPIRED}
"""The outcome is not in Parquet yet. A generation with such a submission is continued, not replaced by a new one."""
