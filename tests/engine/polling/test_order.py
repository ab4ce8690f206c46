"""The order of polling: near expiry first, then in turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.engine.ledger.records import RETENTION, Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import is_near_expiry, poll_order
from tests.support.records import NOW, submission


@pytest.mark.parametrize(("age", "near"), [(timedelta(days=1, hours=23), False), (timedelta(days=2, hours=1), True)])
@pytest.mark.parametrize("state", [State.FINISHED, State.SUBMITTING])
def test_expiry_counts_from_the_job_or_else_from_the_claim(age: timedelta, near: bool, state: State) -> None:
    assert is_near_expiry(submission(state, age=age), NOW) is near


def ids(found: Sequence[Submission]) -> list[int]:
    return [each.id for each in found]


def test_jobs_near_expiry_come_first_and_then_those_not_polled_last_time() -> None:
    old = RETENTION - timedelta(hours=1)
    submitted = [
        submission(State.SUBMITTED, number=number, age=old if number in {2, 5} else timedelta(0)) for number in range(7)
    ]
    assert ids(poll_order(submitted, 3, NOW)) == [5, 2, 4, 6, 0, 1, 3]


@given(
    states=st.lists(st.sampled_from(State), max_size=30),
    per_tick=st.integers(min_value=1, max_value=7),
    through=st.integers(min_value=-5, max_value=50),
)
def test_no_job_is_polled_twice_before_each_was_polled_once(states: list[State], per_tick: int, through: int) -> None:
    submissions = [submission(state, number=number) for number, state in enumerate(states)]
    submitted = {each.id for each in submissions if each.state == State.SUBMITTED}
    seen: list[int] = []
    for _ in range(-(-len(submitted) // per_tick)):
        polled = poll_order(submissions, through, NOW)[:per_tick]
        seen += ids(polled)
        through = polled[-1].id
    assert set(seen) == submitted
    assert len(seen[: len(submitted)]) == len(set(seen[: len(submitted)]))
