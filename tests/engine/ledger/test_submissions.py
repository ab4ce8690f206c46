"""The ledger: every change is a legal transition from the state that was seen, by one worker, or none at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.errors import IllegalTransitionError, LedgerError, LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.ledger.states import OPEN, TRANSITIONS, UNSENT, State
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.target import Entry, Target
from scrapedo_dagster.engine.targets.validation import validated_entries

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
def in_state(
    ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]
) -> Callable[[State], SubmissionWithTargets]:
    def in_state(state: State) -> SubmissionWithTargets:
        [submission] = plan(["https://a.example/"])
        for name in HOW_TO_GET_TO[state]:
            moved = NAMED[name][1](ledger, submission)
            assert moved is not None
            submission = moved
        assert submission.state == state
        return submission

    return in_state


# Narrower than TRANSITIONS: a claim is made once and renewed by who has it; a batch with targets has to be sent.
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


def test_claim_that_was_lost_and_won_by_another_is_not_mine_again(
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


def test_claim_that_was_renewed_cannot_be_released_by_whoever_saw_it_before(
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


def test_batch_without_targets_is_finished_as_it_is(
    ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    [submission] = plan([])
    assert ledger.submissions.mark_finished(submission).state == State.FINISHED


def test_generation_is_planned_once(
    ledger: Ledger, ref: PartitionRef, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    planned = plan(["https://a.example/"], ["https://b.example/"])
    other = [validated_entries(["https://c.example/"], "raise")] * 3
    assert not ledger.generations.plan(ref, 1, other, fingerprint="x", run_id="other")
    assert ledger.submissions.with_targets(ref, 1) == planned
    assert ledger.generations.newest(ref) == 1
    assert ledger.generations.plan(ref, 2, other, fingerprint="x", run_id="other")
    assert ledger.generations.newest(ref) == 2
    assert ledger.submissions.with_targets(ref, 1) == planned


def test_all_batches_of_a_generation_are_planned_or_none(
    ledger: Ledger, ref: PartitionRef, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    plan(["https://a.example/"])
    # Batch 0 of generation 2 cannot be written; what was written before it must go as well.
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(table).values(generation=2, batch=1))
    assert not ledger.generations.plan(ref, 2, [validated_entries([], "raise")] * 2, fingerprint="f", run_id=None)
    assert [each.batch for each in ledger.submissions.with_targets(ref, 2)] == [1]


def together(amount: int, work: Callable[[int], Any]) -> list[Any]:
    """Do the work in threads that start at the same moment."""
    barrier = threading.Barrier(amount)

    def one(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(amount) as pool:
        return list(pool.map(one, range(amount)))


def test_of_many_workers_one_wins_the_claim(ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]) -> None:
    submissions = plan(*([f"https://a.example/{number}"] for number in range(5)))
    for submission in submissions:
        won = together(8, lambda n, it=submission: ledger.submissions.claim(it, run_id=f"run {n}", fingerprint="f"))  # type: ignore[misc]
        [winner] = filter(None, won)
        assert ledger.submissions.get(submission.id) == winner


def test_of_many_workers_one_plans_the_generation(ledger: Ledger, ref: PartitionRef) -> None:
    entries = validated_entries(["https://a.example/"], "raise")
    ledger.generations.newest(ref)
    planned = together(
        8, lambda n: ledger.generations.plan(ref, 1, [entries] * (n + 1), fingerprint="f", run_id=f"run {n}")
    )
    assert planned.count(True) == 1
    assert len(ledger.submissions.with_targets(ref, 1)) == planned.index(True) + 1


def test_a_job_is_one_submissions_only(ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]) -> None:
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


def test_accounts_with_equal_names_are_apart(ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]) -> None:
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


def test_partitions_and_datasets_are_apart_whatever_they_are_called(
    ledger: Ledger, account: str, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    names = [None, "null", "", '"null"', "None", "ü", "Ü", " "]
    refs = [PartitionRef(account, dataset, name) for dataset in ("shop", "Shop") for name in names]
    for number, ref in enumerate(refs):
        plan([f"https://a.example/{number}"], within=ref)
    for number, ref in enumerate(refs):
        [submission] = ledger.submissions.with_targets(ref, 1)
        assert submission.ref == ref
        assert submission.targets == (f"https://a.example/{number}",)


def test_scope_reads_well_in_messages() -> None:
    assert str(PartitionRef("a", "shop", None)) == "shop"
    assert str(PartitionRef("a", "shop", "null")) == "shop, partition 'null'"


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


def test_failed_targets_are_planned_in_the_moment_the_others_are_collected(
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


def test_find_gives_the_oldest_first(
    ledger: Ledger, account: str, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    wednesday = plan(["https://a.example/"], ["https://b.example/"], within=PartitionRef(account, "shop", "wed"))
    monday = plan(["https://a.example/"], within=PartitionRef(account, "shop", "mon"))
    assert ledger.submissions.find(states=[State.PLANNED]) == [*wednesday, *monday]
    assert ledger.submissions.find(states=[]) == []
    assert ledger.submissions.find(account="nobody") == []


def test_a_submission_that_is_not_there_is_named(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no submission 77"):
        ledger.submissions.get(77)


def test_the_token_is_not_stored(
    ledger: Ledger, token: str, in_state: Callable[[State], SubmissionWithTargets], tmp_path: Path
) -> None:
    submission = in_state(State.COLLECTED)
    assert submission.ref.account == account_fingerprint(token)
    ledger.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if submission.ref.account.encode() in path.read_bytes()]
    assert not [path for path in files if token.encode() in path.read_bytes()]


def test_the_password_of_a_database_is_not_shown() -> None:
    assert "hidden" not in repr(Ledger("postgresql+psycopg://user:hidden@host/database"))
    assert "host" in repr(Ledger("postgresql+psycopg://user:hidden@host/database"))


def test_nothing_is_touched_before_the_first_use(tmp_path: Path) -> None:
    repr(Ledger(f"sqlite:///{tmp_path / 'a' / 'ledger.db'}"))
    assert not (tmp_path / "a").exists()


def test_it_can_be_used_again_after_it_was_closed(
    ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    planned = plan(["https://a.example/"])
    ledger.close()
    assert ledger.submissions.find() == planned


def test_a_claim_is_on_disk_before_anything_is_sent(
    ledger: Ledger, ledger_url: str, plan: Callable[..., list[SubmissionWithTargets]]
) -> None:
    [submission] = plan(["https://a.example/"])
    ledger.submissions.claim(submission, run_id=None, fingerprint="f")
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "2 is FULL"
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with sqlite3.connect(sa.make_url(ledger_url).database or "") as other:
        assert other.execute("select state from scrapedo_submissions").fetchall() == [("submitting",)]


def test_threads_that_share_it_lose_nothing(ledger: Ledger, account: str) -> None:
    def work(number: int) -> None:
        for step in range(5):
            ref = PartitionRef(account, f"dataset {number}", str(step))
            assert ledger.generations.plan(
                ref, 1, [validated_entries(["https://a.example/"], "raise")], fingerprint="f", run_id=None
            )
            [submission] = ledger.submissions.with_targets(ref, 1)
            claimed = ledger.submissions.claim(submission, run_id=None, fingerprint="f")
            assert claimed
            ledger.submissions.mark_submitted(claimed, f"job {number} {step}", [])

    together(6, work)
    assert len(ledger.submissions.known_job_ids(account)) == 30


CLAIMER = """
import sys
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.targets.validation import validated_entries

ledger = Ledger(sys.argv[1])
ref = PartitionRef("account", "shop", None)
print("ready", flush=True)
sys.stdin.readline()
batches = [validated_entries([f"https://a.example/{n}"], "raise") for n in range(20)]
ledger.generations.plan(ref, 1, batches, fingerprint="f", run_id=None)
unclaimed = [each for each in ledger.submissions.with_targets(ref, 1) if each.state.value == "planned"]
won = [each.batch for each in unclaimed if ledger.submissions.claim(each, run_id=None, fingerprint="f")]
print(*won)
"""


def test_processes_that_create_and_use_it_at_the_same_time_win_each_claim_once(ledger_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, ledger_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    won = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(int(batch) for each in won for batch in each.split()) == list(range(20))


def test_a_submission_is_what_was_seen_and_does_not_change(plan: Callable[..., list[SubmissionWithTargets]]) -> None:
    [submission] = plan(["https://a.example/"])
    assert replace(submission) == submission
    with pytest.raises(AttributeError):
        submission.state = State.COLLECTED  # type: ignore[misc]
