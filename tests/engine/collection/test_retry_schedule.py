"""What is due: decided from plain values, so that every mixture of batches can be tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.engine.collection.retry_schedule import ATTEMPTS, LAST_ATTEMPTS, Need, delay_after, need_of
from scrapedo_dagster.engine.ledger.records import RETENTION, GenerationRecord, PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import NEAR_EXPIRY, is_near_expiry, poll_order

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)
REF = PartitionRef("account", "shop", "mon")
RECORD = GenerationRecord(REF, 1, completed_at=None, collect_key=None, collect_attempts=0, collect_after=None)
ENDED = {State.FINISHED, State.EXPIRED, State.COLLECTED}
UNENDED = {State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED}
OF_A_GENERATION_THAT_GOES_ON = sorted(set(State) - {State.CANCELED, State.FAILED})


def batch(state: State, *, age: timedelta = timedelta(hours=1), number: int = 1) -> Submission:
    """One that was planned, claimed and submitted so long ago."""
    is_job = state not in {State.PLANNED, State.SUBMITTING, State.UNCERTAIN}
    return Submission(
        id=number,
        ref=REF,
        generation=1,
        batch=number,
        attempt=0,
        state=state,
        target_count=1,
        claim=None,
        job_id=f"job-{number}" if is_job else None,
        run_id="run",
        reason=None,
        credits=None,
        succeeded=None,
        planned_at=NOW - age,
        claimed_at=None if state == State.PLANNED else NOW - age,
        submitted_at=NOW - age if is_job else None,
        finished_at=None,
        collected_at=None,
        expires_at=NOW - age + RETENTION if is_job else None,
    )


states = st.sampled_from(OF_A_GENERATION_THAT_GOES_ON)
ages = st.timedeltas(min_value=timedelta(0), max_value=RETENTION * 2)
batches = st.lists(st.tuples(states, ages), min_size=1, max_size=5).map(
    lambda drawn: [batch(state, age=age, number=number) for number, (state, age) in enumerate(drawn)]
)


@given(batches)
def test_a_run_is_launched_once_no_job_has_to_be_waited_for(submissions: list[Submission]) -> None:
    need = need_of(RECORD, submissions, NOW)
    if not {each.state for each in submissions} & UNENDED:
        assert need is Need.COLLECTING
    elif not any(each.state == State.FINISHED for each in submissions):
        assert need is Need.WAITING


@given(batches)
def test_results_that_expire_soon_are_collected_whatever_the_others_do(submissions: list[Submission]) -> None:
    finished = replace(batch(State.FINISHED, age=RETENTION - NEAR_EXPIRY + timedelta(minutes=1)), id=99)
    assert need_of(RECORD, [*submissions, finished], NOW) is Need.COLLECTING


@given(batches)
def test_results_that_keep_for_long_wait_for_the_others(submissions: list[Submission]) -> None:
    young = [batch(each.state, number=each.id) for each in submissions]
    others = {each.state for each in young} & UNENDED
    assert need_of(RECORD, young, NOW) is (Need.WAITING if others else Need.COLLECTING)


@pytest.mark.parametrize("unsure", [State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED])
def test_what_was_never_answered_does_not_let_the_results_beside_it_expire(unsure: State) -> None:
    old = RETENTION - timedelta(hours=2)
    submissions = [batch(State.FINISHED, age=old, number=1), batch(unsure, age=old, number=2)]
    assert need_of(RECORD, submissions, NOW) is Need.COLLECTING


def test_what_was_never_sent_is_sent_by_whoever_collects() -> None:
    assert need_of(RECORD, [batch(State.PLANNED), batch(State.COLLECTED, number=2)], NOW) is Need.COLLECTING


def test_a_complete_generation_that_dagster_was_not_told_of_is_told_at_once() -> None:
    complete = replace(RECORD, completed_at=NOW, collect_key="key")
    assert need_of(complete, [batch(State.COLLECTED)], NOW) is Need.COLLECTING


@given(st.integers(min_value=0, max_value=ATTEMPTS))
def test_the_delay_grows_and_has_a_bound(attempts: int) -> None:
    assert timedelta(minutes=1) <= delay_after(attempts) <= delay_after(attempts + 1) <= timedelta(hours=1)


def test_twelve_failed_runs_take_more_than_seven_hours_and_then_a_person_has_to_look() -> None:
    record, now, launched = RECORD, NOW, 0
    while (need := need_of(record, [batch(State.FINISHED)], now)) is not Need.INTERVENTION:
        if need is Need.COLLECTING:
            launched += 1
            after = now + delay_after(record.collect_attempts)
            record = replace(record, collect_attempts=launched, collect_after=after)
        else:
            assert need is Need.LATER
        now += timedelta(minutes=1)
    assert launched == ATTEMPTS == 12
    assert timedelta(hours=6) < now - NOW < timedelta(hours=9)


def test_when_nobody_has_looked_it_is_tried_every_hour_of_the_last_day() -> None:
    given_up = replace(RECORD, collect_attempts=ATTEMPTS, collect_after=NOW)
    late = [batch(State.FINISHED, age=timedelta(days=2, hours=1))]
    assert need_of(given_up, [batch(State.FINISHED)], NOW) is Need.INTERVENTION
    assert need_of(given_up, late, NOW) is Need.COLLECTING
    assert need_of(replace(given_up, collect_after=NOW + delay_after(ATTEMPTS)), late, NOW) is Need.LATER
    assert need_of(replace(given_up, collect_attempts=LAST_ATTEMPTS), late, NOW) is Need.INTERVENTION


@pytest.mark.parametrize(("age", "near"), [(timedelta(days=1, hours=23), False), (timedelta(days=2, hours=1), True)])
@pytest.mark.parametrize("state", [State.FINISHED, State.SUBMITTING])
def test_expiry_is_told_by_the_job_or_else_by_the_claim(age: timedelta, near: bool, state: State) -> None:
    assert is_near_expiry(batch(state, age=age), NOW) is near


# --- whose turn it is


def ids(found: Sequence[Submission]) -> list[int]:
    return [each.id for each in found]


def test_near_expiry_comes_first_and_then_what_was_not_looked_at_last_time() -> None:
    old = RETENTION - timedelta(hours=1)
    submitted = [
        batch(State.SUBMITTED, number=number, age=old if number in {2, 5} else timedelta(0)) for number in range(7)
    ]
    assert ids(poll_order(submitted, 3, NOW)) == [5, 2, 4, 6, 0, 1, 3]


@given(
    states=st.lists(states, max_size=30),
    per_tick=st.integers(min_value=1, max_value=7),
    through=st.integers(min_value=-5, max_value=50),
)
def test_no_job_is_looked_at_twice_before_each_was_looked_at_once(
    states: list[State], per_tick: int, through: int
) -> None:
    submissions = [batch(state, number=number) for number, state in enumerate(states)]
    submitted = {each.id for each in submissions if each.state == State.SUBMITTED}
    seen: list[int] = []
    for _ in range(-(-len(submitted) // per_tick)):
        looked = poll_order(submissions, through, NOW)[:per_tick]
        seen += ids(looked)
        through = looked[-1].id
    assert set(seen) == submitted
    assert len(seen[: len(submitted)]) == len(set(seen[: len(submitted)]))
