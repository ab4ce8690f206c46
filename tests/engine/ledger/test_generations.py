"""Generations: planned once, unconfirmed until Dagster has them, and collected by one run at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import (
    GenerationRecord,
    PartitionRef,
    RecordedOptions,
    SubmissionWithTargets,
)
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.threads import together

Plan = Callable[..., list[SubmissionWithTargets]]


def a_minute(_attempts: int) -> timedelta:
    return timedelta(minutes=1)


@pytest.fixture
def ledger_url(any_ledger_url: str) -> str:
    return any_ledger_url


@pytest.fixture
def unconfirmed(ledger: Ledger, account: str) -> Callable[[], list[GenerationRecord]]:
    return lambda: list(ledger.generations.unconfirmed(account, ["shop"]))


def test_a_generation_is_unconfirmed_until_it_is_complete_and_dagster_has_it(
    plan: Plan, ledger: Ledger, ref: PartitionRef, account: str, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    assert unconfirmed() == []
    batches = plan(["https://a.example/"], ["https://b.example/"])
    [(record, submissions)] = ledger.generations.unconfirmed(account, ["shop"]).items()
    assert record == GenerationRecord(ref, 1, None, None, 0, None)
    assert [each.id for each in submissions] == [each.id for each in batches]
    ledger.generations.mark_completed(ref, 1)
    [complete] = unconfirmed()
    assert complete.completed_at is not None
    ledger.generations.mark_confirmed([complete])
    assert unconfirmed() == []


def test_only_the_newest_generation_of_a_partition_is_unconfirmed(
    plan: Plan, ref: PartitionRef, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    plan(["https://a.example/"], generation=2)
    assert [each.number for each in unconfirmed()] == [2]


@pytest.mark.parametrize("batch", [0, 1])
def test_a_generation_that_was_canceled_in_part_is_not_unconfirmed(
    plan: Plan, ledger: Ledger, batch: int, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    batches = plan(["https://a.example/"], ["https://b.example/"])
    ledger.submissions.mark_canceled(batches[batch], "a person")
    assert unconfirmed() == []


def test_taking_over_a_generation_resets_its_collecting_attempts(
    plan: Plan, ledger: Ledger, ref: PartitionRef, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    ledger.generations.mark_collection_requested(unconfirmed(), "key", again_after=a_minute)
    assert unconfirmed()[0].collect_attempts == 1
    ledger.generations.take_over(ref, 1, run_id="another")
    [record] = unconfirmed()
    assert (record.collect_attempts, record.collect_after) == (0, None)


def test_other_accounts_datasets_and_partitions_are_kept_apart(
    plan: Plan, ledger: Ledger, account: str, ref: PartitionRef
) -> None:
    others = [
        PartitionRef("other", "shop", "mon"),
        PartitionRef(account, "other", "mon"),
        PartitionRef(account, "shop", None),
    ]
    for each in [ref, *others]:
        plan(["https://a.example/"], within=each)
    found = ledger.generations.unconfirmed(account, ["shop"])
    assert {each.ref for each in found} == {ref, PartitionRef(account, "shop", None)}
    assert all([each.ref for each in submissions] == [record.ref] for record, submissions in found.items())
    assert len(ledger.generations.unconfirmed(account, ["shop", "other"])) == 3
    assert ledger.generations.unconfirmed(account, []) == {}


def test_a_collecting_run_is_requested_by_one_sensor_only(
    plan: Plan, ledger: Ledger, ledger_url: str, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    [record] = unconfirmed()
    barrier, won = threading.Barrier(6), list[list[GenerationRecord]]()

    def ask(number: int) -> None:
        own = Ledger(ledger_url)
        own.now()
        barrier.wait()
        won.append(own.generations.mark_collection_requested([record], f"key-{number}", again_after=a_minute))
        own.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [[]] * 5 + [[record]]
    [now] = unconfirmed()
    assert (now.collect_attempts, now.collect_after is None) == (1, False)


def test_a_generation_for_which_a_run_was_requested_meanwhile_is_not_confirmed(
    plan: Plan, ledger: Ledger, ref: PartitionRef, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    ledger.generations.mark_completed(ref, 1)
    [seen] = unconfirmed()
    assert ledger.generations.mark_collection_requested([seen], "key", again_after=a_minute)
    ledger.generations.mark_confirmed([seen])
    [now] = unconfirmed()
    assert (now.collect_key, now.collect_attempts) == ("key", 1)
    ledger.generations.mark_confirmed([now])
    assert unconfirmed() == []


def test_completing_keeps_the_run_key_and_confirming_resets_the_attempts(
    plan: Plan, ledger: Ledger, ref: PartitionRef, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    for attempt in range(3):
        assert ledger.generations.mark_collection_requested(unconfirmed(), f"key-{attempt}", again_after=a_minute)
    ledger.generations.mark_completed(ref, 1)
    [complete] = unconfirmed()
    assert (complete.collect_key, complete.collect_attempts) == ("key-2", 3)
    ledger.generations.mark_confirmed([complete])
    ledger.generations.mark_completed(ref, 1)
    [again] = unconfirmed()
    assert (again.collect_attempts, again.collect_after) == (0, None)


def test_runs_are_requested_in_chunks_without_the_generations_of_another_sensor(
    plan: Plan, ledger: Ledger, account: str, unconfirmed: Callable[[], list[GenerationRecord]], changes: list[str],
    ledger_url: str,
) -> None:  # fmt: skip
    by_five = Ledger(ledger_url, rows_per_statement=5)
    by_five.engine = ledger.engine  # whose statements are in `changes`
    refs = [PartitionRef(account, "shop", f"p{number:02}") for number in range(13)]
    for each in refs:
        plan(["https://a.example/"], within=each)
    again = unconfirmed()[:3]
    assert ledger.generations.mark_collection_requested(again, "first", again_after=a_minute) == again
    seen = unconfirmed()
    others = [seen[2], seen[7]]
    assert ledger.generations.mark_collection_requested(others, "other", again_after=a_minute) == others
    changes.clear()
    won = by_five.generations.mark_collection_requested(
        seen, "key", again_after=lambda attempts: timedelta(hours=attempts)
    )
    assert len(changes) == 3, "those with one request, and ten others by five"
    assert [each.ref for each in won] == [each for each in refs if each not in {refs[2], refs[7]}]
    now = unconfirmed()
    assert [each.collect_key for each in now] == ["other" if number in {2, 7} else "key" for number in range(13)]
    assert [each.collect_attempts for each in now] == [2, 2, 2] + [1] * 10
    first, other = now[0].collect_after, now[3].collect_after
    assert first is not None
    assert other is not None
    assert first - other == timedelta(hours=1)


def test_no_run_is_requested_for_a_generation_that_was_not_planned(ledger: Ledger, ref: PartitionRef) -> None:
    record = GenerationRecord(ref, 7, None, None, 0, None)
    assert ledger.generations.mark_collection_requested([record], "key", again_after=a_minute) == []
    ledger.generations.mark_completed(ref, 7)
    ledger.generations.mark_confirmed([record])


def test_an_unconfirmed_generation_has_all_its_batches(plan: Plan, ledger: Ledger, account: str) -> None:
    [planned] = plan(["https://a.example/", "https://b.example/"])
    claimed: Any = ledger.submissions.claim(planned, run_id="run", fingerprint="f")
    finished = ledger.submissions.mark_finished(ledger.submissions.mark_submitted(claimed, "job", ["t", "u"]))
    ledger.submissions.mark_collected(finished, credits_used=1, succeeded=1, again=finished.entries[:1])
    [submissions] = ledger.generations.unconfirmed(account, ["shop"]).values()
    assert [(each.batch, each.state) for each in submissions] == [(0, State.COLLECTED), (1, State.PLANNED)]


def test_options_are_recorded_with_the_plan_and_replaced_by_a_run_that_records_its_own(
    ledger: Ledger, ref: PartitionRef
) -> None:
    first = RecordedOptions({"geo_code": "us", "render": {"wait_until": "load"}}, ("headers",), 5, 2)
    entries = validated_entries(["https://a.example/"], "raise")
    assert ledger.generations.plan(ref, 1, [entries], fingerprint="f", run_id="a", recorded_options=first)
    other = RecordedOptions({}, (), None, 0)
    assert not ledger.generations.plan(ref, 1, [entries], fingerprint="f", run_id="b", recorded_options=other)
    assert ledger.generations.recorded_options(ref, 1) == first
    ledger.generations.take_over(ref, 1, run_id="c")
    assert ledger.generations.recorded_options(ref, 1) == first
    ledger.generations.take_over(ref, 1, run_id="d", recorded_options=other)
    assert ledger.generations.recorded_options(ref, 1) == other


def test_a_generation_of_a_dataset_has_no_recorded_options(ledger: Ledger, plan: Plan, ref: PartitionRef) -> None:
    plan(["https://a.example/"])
    assert ledger.generations.recorded_options(ref, 1) is None
    assert ledger.generations.recorded_options(ref, 2) is None


def test_no_run_is_requested_for_a_generation_that_another_sensor_has_confirmed(
    plan: Plan, ledger: Ledger, ref: PartitionRef, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    ledger.generations.mark_completed(ref, 1)
    seen = unconfirmed()
    ledger.generations.mark_confirmed(seen)
    assert ledger.generations.mark_collection_requested(seen, "key", again_after=a_minute) == []
    assert unconfirmed() == []


def test_a_generation_that_is_not_complete_cannot_be_confirmed(
    plan: Plan, ledger: Ledger, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    plan(["https://a.example/"])
    ledger.generations.mark_confirmed(unconfirmed())
    assert len(unconfirmed()) == 1


def test_generation_is_planned_once(ledger: Ledger, ref: PartitionRef, plan: Plan) -> None:
    planned = plan(["https://a.example/"], ["https://b.example/"])
    other = [validated_entries(["https://c.example/"], "raise")] * 3
    assert not ledger.generations.plan(ref, 1, other, fingerprint="x", run_id="other")
    assert ledger.submissions.with_targets(ref, 1) == planned
    assert ledger.generations.newest(ref) == 1
    assert ledger.generations.plan(ref, 2, other, fingerprint="x", run_id="other")
    assert ledger.generations.newest(ref) == 2
    assert ledger.submissions.with_targets(ref, 1) == planned


def test_all_batches_of_a_generation_are_planned_or_none(ledger: Ledger, ref: PartitionRef, plan: Plan) -> None:
    plan(["https://a.example/"])
    # Batch 0 of generation 2 cannot be written; what was written before it must go as well.
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(table).values(generation=2, batch=1))
    assert not ledger.generations.plan(ref, 2, [validated_entries([], "raise")] * 2, fingerprint="f", run_id=None)
    assert [each.batch for each in ledger.submissions.with_targets(ref, 2)] == [1]


def test_of_many_workers_one_plans_the_generation(ledger: Ledger, ref: PartitionRef) -> None:
    entries = validated_entries(["https://a.example/"], "raise")
    ledger.generations.newest(ref)
    planned = together(
        8, lambda n: ledger.generations.plan(ref, 1, [entries] * (n + 1), fingerprint="f", run_id=f"run {n}")
    )
    assert planned.count(True) == 1
    assert len(ledger.submissions.with_targets(ref, 1)) == planned.index(True) + 1


@pytest.mark.slow
def test_no_statement_has_more_parameters_than_an_old_sqlite_takes(
    plan: Plan, ledger: Ledger, ref: PartitionRef, unconfirmed: Callable[[], list[GenerationRecord]]
) -> None:
    amounts: list[int] = []

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def _count(_connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not many:
            amounts.append(len(parameters))

    for number in range(520):
        plan(["https://a.example/"], within=replace(ref, partition=str(number)))
    amounts.clear()
    requested = ledger.generations.mark_collection_requested(unconfirmed(), "key", again_after=a_minute)
    assert len(requested) == 520
    ledger.generations.mark_confirmed(unconfirmed())
    assert 500 <= max(amounts) <= 999
