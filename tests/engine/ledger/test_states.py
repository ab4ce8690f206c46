"""The table of transitions."""

from __future__ import annotations

from scrapedo_dagster.engine.ledger.states import OPEN, TRANSITIONS, UNSENT, State


def test_what_is_paid_for_is_never_planned_again() -> None:
    """The table of TRANSITIONS itself: nothing leads from a known job back to one that would be sent."""
    sendable = {State.PLANNED, State.SUBMITTING}
    reached = {State.SUBMITTED}
    while more := {to for state in reached for to in TRANSITIONS[state]} - reached:
        reached |= more
    assert not reached & (sendable | {State.UNCERTAIN})
    assert set(TRANSITIONS) == set(State)
    assert {State.COLLECTED, State.CANCELED} == set(State) - OPEN
    assert TRANSITIONS[State.CANCELED] == {State.FINISHED}, "what was not done of it becomes another batch"
    assert all(not TRANSITIONS[state] for state in set(State) - OPEN - {State.CANCELED})
    assert UNSENT < OPEN
