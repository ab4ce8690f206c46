"""`scrapedo-dagster jobs cancel`."""

import pytest

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.ledger.records import account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from tests.support.cli import Planner, Run, objects


def test_cancel_cancels_at_scrape_do_and_in_the_ledger(run: Run, plan: Planner) -> None:
    one, two = (plan.submitted(each) for each in plan.planned(batches=2))
    result = run("cancel", str(one.id), str(two.id))
    assert result.exit_code == 0
    assert [job.canceled for job in plan.emulator.jobs()] == [True, True]
    assert [each.state for each in plan.ledger.submissions.find()] == [State.CANCELED] * 2
    assert f"job {one.job_id} is canceled" in result.output


def test_cancel_of_a_partition_leaves_the_others(run: Run, plan: Planner) -> None:
    wanted = plan.submitted(plan.planned("shop", "b")[0])
    plan.submitted(plan.planned("shop", "a")[0])
    plan.planned("shop", "a")
    result = run("cancel", "--dataset", "shop", "--partition", "a", "--json")
    assert [each["found"] for each in objects(result)] == ["canceled", "never sent"]
    assert plan.ledger.submissions.get(wanted.id).state == State.SUBMITTED
    assert [job.canceled for job in plan.emulator.jobs()] == [False, True]


def test_cancel_of_an_ended_job_keeps_its_results(run: Run, plan: Planner, token: str) -> None:
    submission = plan.submitted(plan.planned()[0])
    with ScrapeDoAsyncAPIClient(token, base_url=plan.emulator.base_url) as client:
        client.cancel_job(str(submission.job_id))  # ended, in whatever status
        plan.ledger.submissions.mark_finished(submission)
    result = run("cancel", str(submission.id))
    assert result.exit_code == 0
    assert "its results can be collected" in result.output
    assert plan.ledger.submissions.get(submission.id).state == State.FINISHED


def test_cancel_in_part_warns_of_other_open_submissions(run: Run, plan: Planner) -> None:
    one, two = (plan.submitted(each) for each in plan.planned(batches=2))
    result = run("cancel", str(one.id))
    assert result.exit_code == 0
    assert f"scrapedo-dagster jobs cancel {two.id}" in result.output
    assert "Warning" not in run("cancel", str(two.id)).output


def test_failed_cancel_exits_with_1_and_leaves_the_job_open(run: Run, plan: Planner) -> None:
    submission = plan.submitted(plan.planned()[0])
    plan.emulator.set_faults({"calls": [{"endpoint": "cancel_job", "kind": "status", "status": 400}]})
    result = run("cancel", str(submission.id))
    assert result.exit_code == 1
    assert "may continue" in result.output
    assert "400" in result.output
    assert plan.ledger.submissions.get(submission.id).state == State.SUBMITTED


def test_cancel_with_the_token_of_another_account_is_refused(run: Run, plan: Planner) -> None:
    other = plan.planned(account=account_fingerprint("another"))[0]
    result = run("cancel", str(other.id))
    assert result.exit_code == 1
    assert account_fingerprint("another")[:8] in result.output
    assert plan.account[:8] in result.output
    assert plan.ledger.submissions.get(other.id).state == State.PLANNED
    bulk = run("cancel", "--dataset", "shop")
    assert "Skipped 1 submissions of other accounts" in bulk.output
    assert plan.ledger.submissions.get(other.id).state == State.PLANNED


@pytest.mark.parametrize("arguments", [[], ["1", "--dataset", "shop"], ["--partition", "a"]])
def test_cancel_requires_ids_or_a_dataset(run: Run, plan: Planner, arguments: list[str]) -> None:
    assert run("cancel", *arguments).exit_code == 2
