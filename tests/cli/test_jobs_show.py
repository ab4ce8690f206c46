"""`scrapedo-dagster jobs show`."""

from datetime import datetime, timedelta

from tests.support.cli import Planner, Run, objects


def test_show_prints_all_fields_as_text_and_json(run: Run, plan: Planner) -> None:
    done = plan.collected(plan.planned("shop", "2026-01-01")[0])
    [shown] = objects(run("show", str(done.id), "--json"))
    assert set(shown) == {
        *("id", "account", "dataset", "partition", "generation", "batch", "attempt", "state", "targets", "rejected"),
        *("succeeded", "credits", "job_id", "run_id", "reason"),
        *("planned_at", "claimed_at", "submitted_at", "finished_at", "collected_at", "expires_at"),
    }
    assert (shown["dataset"], shown["partition"], shown["state"]) == ("shop", "2026-01-01", "collected")
    assert (shown["targets"], shown["rejected"], shown["succeeded"], shown["credits"]) == (3, 0, 2, 3)
    assert (shown["job_id"], shown["run_id"], shown["account"]) == (done.job_id, "run-1", plan.account)
    assert datetime.fromisoformat(shown["collected_at"]) - datetime.now().astimezone() < timedelta(minutes=1)
    shown = dict(line.split(None, 1) for line in run("show", str(done.id)).output.splitlines())
    assert shown["job_id"] == done.job_id
    assert shown["reason"] == "-"
    assert set(shown) == set(shown)


def test_show_of_an_unknown_submission_names_jobs_list(run: Run, plan: Planner) -> None:
    result = run("show", "77")
    assert result.exit_code == 1
    assert "no submission 77" in result.output
    assert "jobs list" in result.output
