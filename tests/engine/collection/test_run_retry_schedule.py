"""The next action for every mixture of batches, decided from plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.engine.collection.run_retry_schedule import (
    MAX_ATTEMPTS,
    MAX_ATTEMPTS_NEAR_EXPIRY,
    NextAction,
    delay_after,
    next_action,
)
from scrapedo_dagster.engine.ledger.records import RETENTION, GenerationRecord, Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import NEAR_EXPIRY
from tests.support.records import NOW, REF, submission

RECORD = GenerationRecord(REF, 1, completed_at=None, collect_key=None, collect_attempts=0, collect_after=None)
ENDED = {State.FINISHED, State.EXPIRED, State.COLLECTED}
UNENDED = {State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED}
STATES = sorted(set(State) - {State.CANCELED})


states = st.sampled_from(STATES)
ages = st.timedeltas(min_value=timedelta(0), max_value=RETENTION * 2)
batches = st.lists(st.tuples(states, ages), min_size=1, max_size=5).map(
    lambda drawn: [submission(state, age=age, number=number) for number, (state, age) in enumerate(drawn)]
)


@given(batches)
def test_a_generation_is_collected_once_no_job_is_open(submissions: list[Submission]) -> None:
    action = next_action(RECORD, submissions, NOW)
    if not {each.state for each in submissions} & UNENDED:
        assert action is NextAction.COLLECT
    elif not any(each.state == State.FINISHED for each in submissions):
        assert action is NextAction.WAIT


@given(batches)
def test_results_near_expiry_are_collected_whatever_the_state_of_other_batches(submissions: list[Submission]) -> None:
    finished = replace(submission(State.FINISHED, age=RETENTION - NEAR_EXPIRY + timedelta(minutes=1)), id=99)
    assert next_action(RECORD, [*submissions, finished], NOW) is NextAction.COLLECT


@given(batches)
def test_results_far_from_expiry_wait_for_open_jobs(submissions: list[Submission]) -> None:
    young = [submission(each.state, number=each.id) for each in submissions]
    others = {each.state for each in young} & UNENDED
    assert next_action(RECORD, young, NOW) is (NextAction.WAIT if others else NextAction.COLLECT)


@pytest.mark.parametrize("uncertain", [State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED])
def test_an_uncertain_batch_does_not_let_the_results_of_others_expire(uncertain: State) -> None:
    old = RETENTION - timedelta(hours=2)
    submissions = [submission(State.FINISHED, age=old, number=1), submission(uncertain, age=old, number=2)]
    assert next_action(RECORD, submissions, NOW) is NextAction.COLLECT


def test_an_unsent_batch_does_not_delay_collecting() -> None:
    assert (
        next_action(RECORD, [submission(State.PLANNED), submission(State.COLLECTED, number=2)], NOW)
        is NextAction.COLLECT
    )


def test_a_complete_generation_that_was_not_reported_is_collected_at_once() -> None:
    complete = replace(RECORD, completed_at=NOW, collect_key="key")
    assert next_action(complete, [submission(State.COLLECTED)], NOW) is NextAction.COLLECT


@given(st.integers(min_value=0, max_value=MAX_ATTEMPTS))
def test_the_delay_grows_and_has_a_bound(attempts: int) -> None:
    assert timedelta(minutes=1) <= delay_after(attempts) <= delay_after(attempts + 1) <= timedelta(hours=1)


def test_twelve_failed_runs_take_more_than_six_hours_and_then_a_person_intervenes() -> None:
    record, now, launched = RECORD, NOW, 0
    while (action := next_action(record, [submission(State.FINISHED)], now)) is not NextAction.INTERVENE:
        if action is NextAction.COLLECT:
            launched += 1
            after = now + delay_after(record.collect_attempts)
            record = replace(record, collect_attempts=launched, collect_after=after)
        else:
            assert action is NextAction.RETRY_LATER
        now += timedelta(minutes=1)
    assert launched == MAX_ATTEMPTS == 12
    assert timedelta(hours=6) < now - NOW < timedelta(hours=9)


def test_if_nobody_intervenes_it_is_collected_every_hour_of_the_last_day() -> None:
    exhausted = replace(RECORD, collect_attempts=MAX_ATTEMPTS, collect_after=NOW)
    near_expiry = [submission(State.FINISHED, age=timedelta(days=2, hours=1))]
    assert next_action(exhausted, [submission(State.FINISHED)], NOW) is NextAction.INTERVENE
    assert next_action(exhausted, near_expiry, NOW) is NextAction.COLLECT
    assert (
        next_action(replace(exhausted, collect_after=NOW + delay_after(MAX_ATTEMPTS)), near_expiry, NOW)
        is NextAction.RETRY_LATER
    )
    assert (
        next_action(replace(exhausted, collect_attempts=MAX_ATTEMPTS_NEAR_EXPIRY), near_expiry, NOW)
        is NextAction.INTERVENE
    )
