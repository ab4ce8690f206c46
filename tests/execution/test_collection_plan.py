"""Which generations the sensor has collected, decided from plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest

from scrapedo_dagster.engine.collection.run_retry_schedule import NextAction
from scrapedo_dagster.engine.ledger.records import GenerationRecord, PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.execution.collection_plan import group_by_action, unowned_generations

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Runs:
    """Active runs, and those of them that collect what they submit."""

    active: frozenset[str] = frozenset()
    collecting: frozenset[str] = frozenset()

    def is_active(self, root_run_id: str | None) -> bool:
        return root_run_id in self.active

    def is_active_and_collects(self, root_run_id: str | None) -> bool:
        return root_run_id in self.collecting


def generation(
    state: State, *, age: timedelta = timedelta(hours=1), completed: bool = False
) -> dict[GenerationRecord, list[Submission]]:
    ref, began = PartitionRef("account", "shop", "a"), NOW - age
    record = GenerationRecord(ref, 1, began if completed else None, None, 0, None)
    times = {"planned_at": began, "claimed_at": began, "submitted_at": began, "expires_at": began + timedelta(days=3)}
    ids = {"claim": None, "job_id": "job", "run_id": "run", "reason": None, "credits": None, "succeeded": None}
    ends = {"finished_at": None, "collected_at": None}
    return {record: [Submission(1, ref, 1, 0, 0, state, target_count=1, **ids, **times, **ends)]}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "runs", "collecting", "is_owned"),
    [
        (State.FINISHED, Runs(), frozenset(), False),
        (State.FINISHED, Runs(), frozenset({"a"}), True),
        (State.FINISHED, Runs(active=frozenset({"run"})), frozenset(), False),  # it has submitted all, and is done
        (State.PLANNED, Runs(active=frozenset({"run"})), frozenset(), True),
        (State.FINISHED, Runs(collecting=frozenset({"run"})), frozenset(), True),
    ],
)
def test_a_generation_is_owned_by_the_run_that_submits_or_collects_it(
    state: State, runs: Runs, collecting: frozenset[str], is_owned: bool
) -> None:
    assert bool(unowned_generations(generation(state), runs, collecting, NOW)) is not is_owned


def test_results_near_expiry_are_unowned_whatever_runs() -> None:
    near_expiry = generation(State.FINISHED, age=timedelta(days=2, hours=1))
    assert unowned_generations(near_expiry, Runs(), {"a"}, NOW) == near_expiry


@pytest.mark.parametrize(
    ("state", "completed", "action"),
    [
        (State.SUBMITTED, False, NextAction.WAIT),
        (State.FINISHED, False, NextAction.COLLECT),
        (State.COLLECTED, True, NextAction.COLLECT),
    ],
)
def test_generations_are_grouped_by_their_next_action(state: State, completed: bool, action: NextAction) -> None:
    [record] = generations = generation(state, completed=completed)
    groups = group_by_action(generations, NOW)
    assert groups[action] == {"a": record}
    assert sum(map(len, groups.values())) == 1
