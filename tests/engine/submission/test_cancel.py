"""Canceling several submissions: in a given time, and each for itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import JobRequest
from scrapedo_dagster.api.retry import RetryPolicy
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.cancel import CancelResult, cancel_all, open_submissions
from tests.support.clock import ManualClock

Plan = Callable[..., list[SubmissionWithTargets]]


@pytest.fixture
def open_jobs(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, ref: PartitionRef, emulator: Emulator, plan: Plan
) -> list[SubmissionWithTargets]:
    """20 submissions that are jobs, and one that is planned."""
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    for each in plan(*([f"http://127.0.0.1:9/{number}"] for number in range(21)))[:20]:
        claimed = ledger.submissions.claim(each, run_id=None, fingerprint="f")
        assert claimed is not None
        created = client.create_job(JobRequest(targets=list(each.targets)))
        ledger.submissions.mark_submitted(claimed, created.job_id, created.task_ids)
    return open_submissions(ledger, [ref])


def test_cancel_all_returns_in_time_and_reports_what_is_left(
    ledger: Ledger, emulator: Emulator, token: str, open_jobs: list[SubmissionWithTargets]
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "cancel_job", "kind": "hang"}]})
    with ScrapeDoAsyncAPIClient(token, base_url=emulator.base_url, timeout=30) as client:
        began = time.monotonic()
        outcomes = cancel_all(ledger, client, open_jobs, reason="r", seconds=1)
        assert time.monotonic() - began < 2
    assert [each.result for each in outcomes] == [CancelResult.LEFT] * 20 + [CancelResult.NEVER_SENT]
    assert outcomes[0].reason == "Scrape.do did not answer within 1 s"


def test_a_job_that_cannot_be_canceled_does_not_keep_the_others(
    ledger: Ledger, emulator: Emulator, token: str, ref: PartitionRef, open_jobs: list[SubmissionWithTargets]
) -> None:
    failing, gone = open_jobs[3].job_id, open_jobs[4].job_id
    emulator.set_faults(
        {
            "calls": [
                {"endpoint": "cancel_job", "kind": "status", "status": 500, "match": f"*{failing}*"},
                {"endpoint": "cancel_job", "kind": "status", "status": 404, "match": f"*{gone}*"},
            ]
        }
    )
    with ScrapeDoAsyncAPIClient(token, base_url=emulator.base_url, retry=RetryPolicy(attempts=1)) as client:
        results = [each.result for each in cancel_all(ledger, client, open_jobs, reason="r", seconds=120)]
    expected = [CancelResult.CANCELED] * 20 + [CancelResult.NEVER_SENT]
    expected[3], expected[4] = CancelResult.LEFT, CancelResult.ENDED
    assert results == expected
    states = [each.state for each in ledger.submissions.with_targets(ref, 1)]
    assert states[3:6] == [State.SUBMITTED, State.EXPIRED, State.CANCELED]
    assert sum(job.canceled for job in emulator.jobs()) == 18


def test_a_submission_whose_answer_was_lost_is_looked_for_until_the_time_is_over(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, plan: Plan, emulator: Emulator
) -> None:
    claimed = ledger.submissions.claim(plan(["http://127.0.0.1:9/"])[0], run_id=None, fingerprint="f")
    assert claimed is not None
    lost = ledger.submissions.mark_uncertain(claimed, "lost")
    clock = ManualClock()
    [outcome] = cancel_all(ledger, client, [lost], reason="r", seconds=5, clock=clock)
    assert (outcome.result, ledger.submissions.get(lost.id).state) == (CancelResult.LEFT, State.UNCERTAIN)
    assert "answer to its submission was lost" in str(outcome.reason)
    assert 4 <= sum(clock.waits) < 5
    assert emulator.requests()["list_jobs"] == 2 * (len(clock.waits) + 1)
