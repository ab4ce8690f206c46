"""Many jobs that have ended are recorded in few transactions, each row compared before it is swapped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.errors import IllegalTransitionError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.tables import submissions as table

Jobs = Callable[[int], list[SubmissionWithTargets]]


@pytest.fixture
def ledger_url(any_ledger_url: str) -> str:
    return any_ledger_url


@pytest.fixture
def jobs(ledger: Ledger, plan: Callable[..., list[SubmissionWithTargets]]) -> Jobs:
    """So many batches that are jobs."""

    def jobs(amount: int) -> list[SubmissionWithTargets]:
        planned = plan(*([f"https://a.example/{number}"] for number in range(amount)))
        submitted = {"state": State.SUBMITTED.value, "job_id": sa.literal("job-") + table.c.batch.cast(sa.String)}
        with ledger.engine.begin() as connection:
            connection.execute(sa.update(table).values(submitted))
        return ledger.submissions.with_targets(planned[0].ref, 1)

    return jobs


def test_a_thousand_are_recorded_in_two_transactions(ledger: Ledger, jobs: Jobs, changes: list[str]) -> None:
    submissions = jobs(1000)
    changes.clear()
    finished = ledger.submissions.mark_all_finished(submissions)
    assert len(changes) == 2
    assert [each.id for each in finished] == [each.id for each in submissions]
    assert finished == ledger.submissions.with_targets(submissions[0].ref, 1)
    assert {each.state for each in finished} == {State.FINISHED}


def test_those_that_others_have_moved_are_left_as_they_are(ledger: Ledger, jobs: Jobs) -> None:
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


def test_nothing_is_recorded_where_one_is_no_job(
    ledger: Ledger, jobs: Jobs, plan: Callable[..., list[SubmissionWithTargets]], ledger_url: str
) -> None:
    submissions = jobs(2)
    [planned] = plan(["https://b.example/"], generation=2)
    with pytest.raises(IllegalTransitionError, match=f"{planned.id} of shop, partition 'mon' cannot go from planned"):
        Ledger(ledger_url, rows_per_statement=1).submissions.mark_all_finished([*submissions, planned])
    assert ledger.submissions.with_targets(submissions[0].ref, 1) == submissions
    assert ledger.submissions.mark_all_finished([]) == []
