"""`scrapedo-dagster jobs reconcile`."""

import pytest

from scrapedo_dagster.engine.ledger.records import account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from tests.support.cli import Planner, Run, objects


def test_reconcile_adopts_the_job_of_a_lost_answer(run: Run, plan: Planner) -> None:
    lost = plan.uncertain(plan.planned()[0])
    job_id = plan.sent(lost)
    result = run("reconcile")
    assert result.exit_code == 0
    assert f"it is job {job_id}" in result.output
    assert (plan.ledger.submissions.get(lost.id).state, plan.ledger.submissions.get(lost.id).job_id) == (
        State.SUBMITTED,
        job_id,
    )


@pytest.mark.parametrize("state", ["uncertain", "claimed"])
def test_reconcile_plans_a_submission_that_did_not_arrive_again(run: Run, plan: Planner, state: str) -> None:
    lost = getattr(plan, state)(plan.planned()[0], ago=200)
    result = run("reconcile", "--json")
    assert result.exit_code == 0
    assert [(each["id"], each["found"], each["state"]) for each in objects(result)] == [(lost.id, "planned", "planned")]


@pytest.mark.parametrize(("state", "ago"), [("uncertain", 10), ("uncertain", 55), ("claimed", 10), ("claimed", 140)])
def test_reconcile_waits_before_it_concludes_that_nothing_arrived(
    run: Run, plan: Planner, state: str, ago: float
) -> None:
    lost = getattr(plan, state)(plan.planned()[0], ago=ago)
    result = run("reconcile")
    assert result.exit_code == 1
    assert "reconcile again in" in result.output
    assert plan.ledger.submissions.get(lost.id).state == lost.state


def test_reconcile_changes_nothing_if_jobs_cannot_be_listed(run: Run, plan: Planner) -> None:
    lost = plan.uncertain(plan.planned()[0], ago=200)
    plan.emulator.set_faults({"calls": [{"endpoint": "list_jobs", "kind": "status", "status": 400}]})
    result = run("reconcile")
    assert result.exit_code == 1
    assert "could not be listed" in result.output
    assert plan.ledger.submissions.get(lost.id).state == State.UNCERTAIN


def test_reconcile_warns_of_a_canceled_generation(run: Run, plan: Planner) -> None:
    first, second = plan.planned(batches=2)
    plan.ledger.submissions.mark_canceled(first, "terminated")
    lost = plan.uncertain(second)
    plan.sent(lost)
    result = run("reconcile")
    assert f"scrapedo-dagster jobs cancel {lost.id}" in result.output


def test_reconcile_leaves_other_accounts_alone(run: Run, plan: Planner) -> None:
    other = plan.uncertain(plan.planned(account=account_fingerprint("another"))[0], ago=200)
    result = run("reconcile")
    assert "Skipped 1 submissions of other accounts" in result.output
    assert plan.ledger.submissions.get(other.id).state == State.UNCERTAIN
