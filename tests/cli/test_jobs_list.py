"""`scrapedo-dagster jobs list`."""

from tests.support.cli import Planner, Run, objects


def test_list_shows_open_submissions_and_filters_select_others(run: Run, plan: Planner) -> None:
    done = plan.collected(plan.planned("shop", "2026-01-01")[0])
    waiting = plan.submitted(plan.planned("shop", "2026-01-02")[0])
    other = plan.planned("news")[0]
    gone = plan.ledger.submissions.mark_canceled(plan.planned("news", "x")[0], "not wanted")

    def ids(*arguments: str) -> list[int]:
        result = run("list", "--json", *arguments)
        assert result.exit_code == 0
        return [each["id"] for each in objects(result)]

    assert ids() == [waiting.id, other.id]
    assert ids("--state", "all") == [done.id, waiting.id, other.id, gone.id]
    assert ids("--state", "collected", "--state", "canceled") == [done.id, gone.id]
    assert ids("--state", "all", "--dataset", "shop") == [done.id, waiting.id]
    assert ids("--dataset", "shop", "--partition", "2026-01-02") == [waiting.id]
    assert ids("--partition", "2026-01-01") == []
    shown = run("list").output
    assert str(waiting.job_id) in shown
    assert str(done.job_id) not in shown
    assert run("list", "--dataset", "none").output == "No submissions (open).\n"
