"""`scrapedo-dagster jobs show`."""

from datetime import datetime, timedelta

from tests.support.cli import Planner, Run, objects


def test_show_tells_all_about_a_submission_in_words_and_for_scripts(run: Run, plan: Planner) -> None:
    done = plan.collected(plan.planned("shop", "2026-01-01")[0])
    [told] = objects(run("show", str(done.id), "--json"))
    assert set(told) == {
        *("id", "account", "dataset", "partition", "generation", "batch", "attempt", "state", "targets", "rejected"),
        *("succeeded", "credits", "job_id", "run_id", "reason"),
        *("planned_at", "claimed_at", "submitted_at", "finished_at", "collected_at", "expires_at"),
    }
    assert (told["dataset"], told["partition"], told["state"]) == ("shop", "2026-01-01", "collected")
    assert (told["targets"], told["rejected"], told["succeeded"], told["credits"]) == (3, 0, 2, 3)
    assert (told["job_id"], told["run_id"], told["account"]) == (done.job_id, "run-1", plan.account)
    assert datetime.fromisoformat(told["collected_at"]) - datetime.now().astimezone() < timedelta(minutes=1)
    shown = dict(line.split(None, 1) for line in run("show", str(done.id)).output.splitlines())
    assert shown["job_id"] == done.job_id
    assert shown["reason"] == "-"
    assert set(shown) == set(told)


def test_show_of_an_unknown_submission_says_how_to_find_one(run: Run, plan: Planner) -> None:
    result = run("show", "77")
    assert result.exit_code == 1
    assert "no submission 77" in result.output
    assert "jobs list" in result.output
