"""Submissions change by legal transitions from the state that was read, by one worker, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.errors import IllegalTransitionError, LedgerError, LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.ledger.states import TRANSITIONS, State
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.target import Entry, Target
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.threads import together

Plan = Callable[..., list[SubmissionWithTargets]]


Transition = Callable[[Ledger, SubmissionWithTargets], SubmissionWithTargets | None]


NAMED: dict[str, tuple[State, Transition]] = {
    "claim": (State.SUBMITTING, lambda ledger, each: ledger.submissions.claim(each, run_id="r", fingerprint="f")),
    "renew": (State.SUBMITTING, lambda ledger, each: ledger.submissions.renew(each)),
    "release": (State.PLANNED, lambda ledger, each: ledger.submissions.release(each, "why")),
    "uncertain": (State.UNCERTAIN, lambda ledger, each: ledger.submissions.mark_uncertain(each, "why")),
    "submitted": (State.SUBMITTED, lambda ledger, each: ledger.submissions.mark_submitted(each, "job-new", ["t1"])),
    "finished": (State.FINISHED, lambda ledger, each: ledger.submissions.mark_finished(each)),
    "expired": (State.EXPIRED, lambda ledger, each: ledger.submissions.mark_expired(each, "why")),
    "canceled": (State.CANCELED, lambda ledger, each: ledger.submissions.mark_canceled(each, "why")),
    "resumed": (State.FINISHED, lambda ledger, each: ledger.submissions.resume(each, each.entries)),
    "collected": (
        State.COLLECTED,
        lambda ledger, each: ledger.submissions.mark_collected(each, credits_used=3, succeeded=2),
    ),
}


HOW_TO_GET_TO: dict[State, tuple[str, ...]] = {
    State.PLANNED: (),
    State.SUBMITTING: ("claim",),
    State.UNCERTAIN: ("claim", "uncertain"),
    State.SUBMITTED: ("claim", "submitted"),
    State.FINISHED: ("claim", "submitted", "finished"),
    State.COLLECTED: ("claim", "submitted", "finished", "collected"),
    State.EXPIRED: ("claim", "submitted", "expired"),
    State.CANCELED: ("claim", "submitted", "canceled"),
}


def row(ledger: Ledger, submission: SubmissionWithTargets) -> dict[str, Any]:
    """The row as the database has it."""
    with ledger.engine.connect() as connection:
        return dict(connection.execute(sa.select(table).where(table.c.id == submission.id)).mappings().one())


@pytest.fixture
def ledger_url(any_ledger_url: str) -> str:
    return any_ledger_url


@pytest.fixture
def in_state(ledger: Ledger, plan: Plan) -> Callable[[State], SubmissionWithTargets]:
    def in_state(state: State) -> SubmissionWithTargets:
        [submission] = plan(["https://a.example/"])
        for name in HOW_TO_GET_TO[state]:
            moved = NAMED[name][1](ledger, submission)
            assert moved is not None
            submission = moved
        assert submission.state == state
        return submission

    return in_state


ONLY_FROM = {
    "claim": {State.PLANNED},
    "renew": {State.SUBMITTING},
    "finished": {State.SUBMITTED},
    "resumed": {State.CANCELED},
}


ALL = [(state, name) for state in State for name in NAMED]


LEGAL = [
    (state, name) for state, name in ALL if NAMED[name][0] in TRANSITIONS[state] and state in ONLY_FROM.get(name, State)
]


@pytest.mark.parametrize(("state", "name"), LEGAL)
def test_legal_transition_is_recorded_as_it_is_returned(
    ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets], state: State, name: str
) -> None:
    before = in_state(state)
    to, transition = NAMED[name]
    moved = transition(ledger, before)
    assert moved is not None
    assert moved.state == to
    assert moved == ledger.submissions.get(before.id)


@pytest.mark.parametrize(("state", "name"), [pair for pair in ALL if pair not in LEGAL])
def test_illegal_transition_raises_and_changes_nothing(
    ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets], state: State, name: str
) -> None:
    submission = in_state(state)
    before = row(ledger, submission)
    with pytest.raises(IllegalTransitionError, match=f"{submission.id} of shop, partition 'mon' cannot go from"):
        NAMED[name][1](ledger, submission)
    assert row(ledger, submission) == before


@pytest.mark.parametrize(("state", "name"), [(state, name) for state, name in LEGAL if name != "claim"])
def test_stale_submission_loses(
    ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets], state: State, name: str
) -> None:
    _, transition = NAMED[name]
    stale = in_state(state)
    assert transition(ledger, stale) is not None
    after = row(ledger, stale)
    with pytest.raises(LostClaimError, match=f"no longer {state.value}"):
        transition(ledger, stale)
    assert row(ledger, stale) == after


def test_claim_that_was_lost_to_another_worker_stays_lost(
    ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets]
) -> None:
    mine = in_state(State.SUBMITTING)
    theirs = ledger.submissions.claim(
        ledger.submissions.release(mine, "it looked dead"), run_id="other", fingerprint="f"
    )
    assert theirs is not None
    with pytest.raises(LostClaimError):
        ledger.submissions.mark_submitted(mine, "job", [])
    with pytest.raises(LostClaimError):
        ledger.submissions.renew(mine)
    assert ledger.submissions.get(mine.id) == theirs


def test_renewed_claim_cannot_be_released_by_a_worker_that_read_the_old_one(
    ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets]
) -> None:
    seen = in_state(State.SUBMITTING)
    renewed = ledger.submissions.renew(seen)
    with pytest.raises(LostClaimError):
        ledger.submissions.release(seen, "it looked dead when I looked")
    assert ledger.submissions.get(seen.id) == renewed


def test_second_claim_gets_nothing(ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets]) -> None:
    planned = in_state(State.PLANNED)
    mine = ledger.submissions.claim(planned, run_id="mine", fingerprint="f")
    assert ledger.submissions.claim(planned, run_id="theirs", fingerprint="f") is None
    assert ledger.submissions.get(planned.id) == mine


def test_batch_without_targets_can_be_finished_without_a_job(ledger: Ledger, plan: Plan) -> None:
    [submission] = plan([])
    assert ledger.submissions.mark_finished(submission).state == State.FINISHED


def test_of_many_workers_one_wins_the_claim(ledger: Ledger, plan: Plan) -> None:
    submissions = plan(*([f"https://a.example/{number}"] for number in range(5)))
    for submission in submissions:
        won = together(8, lambda n, it=submission: ledger.submissions.claim(it, run_id=f"run {n}", fingerprint="f"))  # type: ignore[misc]
        [winner] = filter(None, won)
        assert ledger.submissions.get(submission.id) == winner


def test_a_job_belongs_to_one_submission(ledger: Ledger, plan: Plan) -> None:
    first, second = (
        ledger.submissions.claim(each, run_id=None, fingerprint="f")
        for each in plan(["https://a.example/"], ["https://b.example/"])
    )
    assert first
    assert second
    ledger.submissions.mark_submitted(first, "job", [])
    with pytest.raises(LostClaimError, match="Job job belongs to another submission"):
        ledger.submissions.mark_submitted(second, "job", [])
    assert ledger.submissions.get(second.id) == second
    assert ledger.submissions.known_job_ids(first.ref.account) == {"job"}


def test_accounts_with_equal_names_are_kept_apart(ledger: Ledger, plan: Plan) -> None:
    one, two = (PartitionRef(account_fingerprint(token), "shop", "mon") for token in ("token one", "token two"))
    [first] = plan(["https://a.example/"], within=one)
    [second] = plan(["https://b.example/"], within=two)
    for submission in (first, second):  # job ids are the accounts' own
        claimed = ledger.submissions.claim(submission, run_id=None, fingerprint="f")
        assert claimed
        ledger.submissions.mark_submitted(claimed, "job", [])
    assert [each.targets for each in ledger.submissions.with_targets(one, 1)] == [("https://a.example/",)]
    assert [each.id for each in ledger.submissions.find(account=two.account)] == [second.id]
    assert ledger.submissions.count(one.account, [State.SUBMITTED]) == 1
    assert len(ledger.submissions.find()) == 2


def test_partitions_and_datasets_are_kept_apart_whatever_their_names(ledger: Ledger, account: str, plan: Plan) -> None:
    names = [None, "null", "", '"null"', "None", "ü", "Ü", " "]
    refs = [PartitionRef(account, dataset, name) for dataset in ("shop", "Shop") for name in names]
    for number, ref in enumerate(refs):
        plan([f"https://a.example/{number}"], within=ref)
    for number, ref in enumerate(refs):
        [submission] = ledger.submissions.with_targets(ref, 1)
        assert submission.ref == ref
        assert submission.targets == (f"https://a.example/{number}",)


def test_times_are_aware_and_utc(ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets]) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    submission = ledger.submissions.get(in_state(State.COLLECTED).id)
    times = [submission.planned_at, submission.claimed_at, submission.submitted_at, submission.finished_at]
    times.append(submission.collected_at)
    assert all(time is not None and time.utcoffset() == timedelta(0) for time in times)
    assert times == sorted(times)  # type: ignore[type-var]
    assert times[0] is not None
    assert before < times[0] < before + timedelta(minutes=1)


def test_a_time_of_another_zone_is_the_same_moment(
    ledger: Ledger, in_state: Callable[[State], SubmissionWithTargets]
) -> None:
    submission = in_state(State.SUBMITTING)
    moment = datetime(2026, 1, 1, 2, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(table).values(claimed_at=moment))
    read = ledger.submissions.get(submission.id).claimed_at
    assert read == moment
    assert read is not None
    assert read.tzinfo == timezone.utc


def test_entries_come_back_as_they_were(ledger: Ledger, ref: PartitionRef) -> None:
    entries = validated_entries(
        ["https://a.example/?q=ü%20", Target("https://b.example/", key="sku"), "nonsense", "https://a.example/?q=ü%20"],
        "skip",
    )
    assert ledger.generations.plan(ref, 1, [entries], fingerprint="f", run_id=None)
    [submission] = ledger.submissions.with_targets(ref, 1)
    assert submission.entries == entries
    assert all(type(entry) is Entry for entry in submission.entries)
    assert submission.targets == ("https://a.example/?q=ü%20", "https://b.example/")
    assert row(ledger, submission)["target_count"] == 2


def test_failed_targets_are_planned_in_the_transaction_that_collects_the_others(
    ledger: Ledger, ref: PartitionRef, in_state: Callable[[State], SubmissionWithTargets]
) -> None:
    finished = in_state(State.FINISHED)
    collected = ledger.submissions.mark_collected(finished, credits_used=5, succeeded=1, again=finished.entries)
    first, again = ledger.submissions.with_targets(ref, 1)
    assert first == collected
    assert (first.credits, first.succeeded, first.is_open) == (5, 1, False)
    assert (again.state, again.batch, again.attempt, again.entries) == (State.PLANNED, 1, 1, finished.entries)
    # Another worker that has collected the same must not plan them once more.
    with pytest.raises(LostClaimError):
        ledger.submissions.mark_collected(finished, credits_used=5, succeeded=1, again=finished.entries)
    assert len(ledger.submissions.with_targets(ref, 1)) == 2


def test_find_returns_the_oldest_first(ledger: Ledger, account: str, plan: Plan) -> None:
    wednesday = plan(["https://a.example/"], ["https://b.example/"], within=PartitionRef(account, "shop", "wed"))
    monday = plan(["https://a.example/"], within=PartitionRef(account, "shop", "mon"))
    assert ledger.submissions.find(states=[State.PLANNED]) == [*wednesday, *monday]
    assert ledger.submissions.find(states=[]) == []
    assert ledger.submissions.find(account="nobody") == []


def test_a_missing_submission_is_named(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no submission 77"):
        ledger.submissions.get(77)


def test_open_submissions_of_canceled_and_superseded_generations_are_found(
    plan: Plan, ledger: Ledger, account: str, ref: PartitionRef
) -> None:
    first, second, third = plan(["https://a.example/"], ["https://b.example/"], ["https://c.example/"])
    assert (
        ledger.submissions.open_of_canceled(account, ["shop"])
        == ledger.submissions.open_of_superseded(account, ["shop"])
        == []
    )
    ledger.submissions.mark_canceled(first, "a person")
    assert [each.id for each in ledger.submissions.open_of_canceled(account, ["shop"])] == [second.id, third.id]
    claimed = ledger.submissions.claim(second, run_id="run", fingerprint="f")
    assert claimed is not None
    ledger.submissions.mark_finished(ledger.submissions.mark_submitted(claimed, "job", []))
    assert [each.id for each in ledger.submissions.open_of_canceled(account, ["shop"])] == [third.id]
    plan(["https://a.example/"], generation=2)
    assert [each.id for each in ledger.submissions.open_of_superseded(account, ["shop"])] == [third.id]
    assert (
        ledger.submissions.open_of_superseded(account, ["other"])
        == ledger.submissions.open_of_superseded("other", ["shop"])
        == []
    )


Jobs = Callable[[int], list[SubmissionWithTargets]]


@pytest.fixture
def jobs(ledger: Ledger, plan: Plan) -> Jobs:
    """Plan an amount of batches and make jobs of them."""

    def jobs(amount: int) -> list[SubmissionWithTargets]:
        planned = plan(*([f"https://a.example/{number}"] for number in range(amount)))
        submitted = {"state": State.SUBMITTED.value, "job_id": sa.literal("job-") + table.c.batch.cast(sa.String)}
        with ledger.engine.begin() as connection:
            connection.execute(sa.update(table).values(submitted))
        return ledger.submissions.with_targets(planned[0].ref, 1)

    return jobs


def test_a_thousand_ended_jobs_are_recorded_in_two_transactions(ledger: Ledger, jobs: Jobs, changes: list[str]) -> None:
    submissions = jobs(1000)
    changes.clear()
    finished = ledger.submissions.mark_all_finished(submissions)
    assert len(changes) == 2
    assert [each.id for each in finished] == [each.id for each in submissions]
    assert finished == ledger.submissions.with_targets(submissions[0].ref, 1)
    assert {each.state for each in finished} == {State.FINISHED}


def test_submissions_that_others_have_changed_are_not_marked_finished(ledger: Ledger, jobs: Jobs) -> None:
    submissions = jobs(6)
    others = [
        ledger.submissions.mark_finished(submissions[0]),
        ledger.submissions.mark_canceled(submissions[2], "a person"),
        ledger.submissions.mark_expired(submissions[4], "gone"),
    ]
    ours = ledger.submissions.mark_all_finished(submissions)
    assert [each.batch for each in ours] == [1, 3, 5]
    assert [ledger.submissions.get(each.id) for each in others] == others
    assert ledger.submissions.mark_all_finished(submissions) == []


def test_nothing_is_marked_finished_if_one_is_not_a_job(
    ledger: Ledger, jobs: Jobs, plan: Plan, ledger_url: str
) -> None:
    submissions = jobs(2)
    [planned] = plan(["https://b.example/"], generation=2)
    with pytest.raises(IllegalTransitionError, match=f"{planned.id} of shop, partition 'mon' cannot go from planned"):
        Ledger(ledger_url, rows_per_statement=1).submissions.mark_all_finished([*submissions, planned])
    assert ledger.submissions.with_targets(submissions[0].ref, 1) == submissions
    assert ledger.submissions.mark_all_finished([]) == []
