"""One batch is claimed, sent once, and recorded, whatever becomes of the answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import APIConnectionError, BadRequestError, RateLimitError
from scrapedo_dagster.api.requests import JobRequest, ScrapeOptions
from scrapedo_dagster.api.responses import JobCreationResponse
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.records import RETENTION, PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.clock import ManualClock
from tests.support.submission import once_each, submit

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]


def test_options_are_sent_and_have_a_fingerprint(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    desktop, mobile = (
        submitter(options=ScrapeOptions(device="desktop")),
        submitter(options=ScrapeOptions(device="mobile")),
    )
    [submission] = submit(desktop, urls(1))
    assert emulator.jobs()[0].request["Device"] == "desktop"
    assert submission.fingerprint == desktop.settings.fingerprint != mobile.settings.fingerprint


def test_rejected_targets_are_never_sent(submitter: MakeSubmitter, emulator: Emulator) -> None:
    [submission] = submit(submitter(), ["nonsense"])
    assert submission.state == State.FINISHED
    assert emulator.requests().get("create_job", 0) == 0


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 429}, {"kind": "status", "status": 429, "retry_after": 0}]
)
def test_a_short_rate_limit_is_waited_for(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, fault: dict[str, Any]
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "times": 4, **fault}]})
    submit(submitter(), urls(1, 2))
    assert once_each(emulator, urls(1, 2))
    assert emulator.requests()["create_job"] == 5


def test_a_lasting_rate_limit_is_raised_and_the_batch_is_planned_again(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 429}]})
    with pytest.raises(RateLimitError):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    assert "429" in ledger.submissions.find()[0].reason
    emulator.set_faults({})
    submit(submitter(), urls(1))
    assert once_each(emulator, urls(1))


def test_a_pause_longer_than_a_claim_lasts_is_not_waited_for(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 429, "retry_after": 3600}]})
    with pytest.raises(RateLimitError):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    assert emulator.requests()["create_job"] == 1


def test_an_unreachable_service_leaves_the_batch_planned(submitter: MakeSubmitter, urls: Urls, ledger: Any) -> None:
    with ScrapeDoAsyncAPIClient("t", base_url="http://127.0.0.1:1") as nowhere:
        worker = submitter(client=nowhere)
        ledger.generations.plan(worker.ref, 1, [validated_entries(urls(1), "raise")], fingerprint="f", run_id=None)
        with pytest.raises(APIConnectionError):
            worker.submit(1)
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]


def test_a_refused_batch_is_planned_again(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 400}]})
    with pytest.raises(BadRequestError):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    assert emulator.requests()["create_job"] == 1


def test_results_expire_by_the_claim_however_late_the_job_was_adopted(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "drop", "when": "after", "times": 1}]})
    worker = submitter(claim_policy=ClaimPolicy(absent_after=timedelta(minutes=10)))
    worker.begin(validated_entries(urls(1), "raise"))
    worker.advance(ledger.submissions.find())
    [lost] = ledger.submissions.find()
    ledger.ahead = timedelta(days=2)
    adopted = ledger.submissions.mark_submitted(lost, emulator.jobs()[0].job_id, [])
    assert adopted.expires_at == lost.claimed_at + RETENTION


class Late:
    """A client whose answers to submissions come late: first `meanwhile` happens."""

    def __init__(self, client: ScrapeDoAsyncAPIClient, meanwhile: Callable[[str], Any]) -> None:
        self._client = client
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_job(self, request: JobRequest, **more: Any) -> JobCreationResponse:
        created = self._client.create_job(request, **more)
        self._meanwhile(created.job_id)
        return created


@pytest.fixture
def late_submitter(submitter: MakeSubmitter, client: ScrapeDoAsyncAPIClient) -> Callable[..., Submitter]:
    return lambda meanwhile: submitter(client=Late(client, meanwhile))


def test_answer_that_comes_after_the_job_was_adopted_is_no_second_job(
    late_submitter: Callable[..., Submitter],
    client: ScrapeDoAsyncAPIClient,
    emulator: Emulator,
    urls: Urls,
    ledger: Any,
    claim_policy: Any,
) -> None:
    def adopted_by_another_worker(_job_id: str) -> None:
        assert reconcile(ledger, client, ledger.submissions.find()[0], claim_policy)

    [submission] = submit(late_submitter(adopted_by_another_worker), urls(1))
    [job] = emulator.jobs()
    assert (submission.job_id, job.canceled) == (job.job_id, False)


def test_answer_that_comes_after_it_was_planned_again_replaces_another_job(
    late_submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    [submission] = submit(
        late_submitter(lambda _job_id: ledger.submissions.release(ledger.submissions.find()[0], "it looked dead")),
        urls(1),
    )
    [job] = emulator.jobs()
    assert (submission.job_id, job.canceled) == (job.job_id, False)


@pytest.mark.parametrize("ended", [False, True])
def test_answer_that_comes_after_another_job_was_sent_cancels_its_own(
    late_submitter: Callable[..., Submitter],
    submitter: Any,
    emulator: Emulator,
    urls: Urls,
    ledger: Any,
    eventually: Callable[..., Any],
    ended: bool,
) -> None:
    if not ended:
        emulator.set_faults({"targets": [{"kind": "linger", "status": "pending"}]})

    def sent_again(_job_id: str) -> None:
        if len(emulator.jobs()) == 1:
            ledger.submissions.release(ledger.submissions.find()[0], "it looked dead")
            submitter().submit(1)
        if ended:
            eventually(lambda: emulator.jobs()[0].status == "success")

    [submission] = submit(late_submitter(sent_again), urls(1))
    first, second = emulator.jobs()
    assert submission.job_id == second.job_id
    assert (first.canceled, second.canceled) == (not ended, False)
    assert any("sent once too often" in line and first.job_id in line for line in submitter.lines)


def test_answer_whose_job_another_batch_has_adopted_leaves_it_the_job(
    late_submitter: Callable[..., Submitter],
    client: ScrapeDoAsyncAPIClient,
    submitter: Any,
    emulator: Emulator,
    urls: Urls,
    ledger: Any,
    plan: Callable[..., list[SubmissionWithTargets]],
    account: str,
    claim_policy: Any,
) -> None:
    """Both have the same targets, and the answer came after the lease: each gets a job, and none is canceled."""
    emulator.set_faults({"targets": [{"kind": "linger", "status": "pending"}]})  # else it would be too late to cancel
    [other] = plan(urls(1), within=PartitionRef(account, "other", None))
    other = ledger.submissions.mark_uncertain(ledger.submissions.claim(other, run_id="dead", fingerprint="f"), "lost")

    def adopted_for_the_other(_job_id: str) -> None:
        if ledger.submissions.get(other.id).state == State.UNCERTAIN:
            ledger.ahead += claim_policy.lease + timedelta(seconds=1)
            assert reconcile(ledger, client, other, claim_policy)

    [mine] = submit(late_submitter(adopted_for_the_other), urls(1))
    first, second = emulator.jobs()
    assert not first.canceled
    assert not second.canceled
    assert {ledger.submissions.get(other.id).job_id, mine.job_id} == {first.job_id, second.job_id}
    assert not any("once too often" in line for line in submitter.lines)


def test_the_pause_that_the_service_asks_for_is_waited_for(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls
) -> None:
    busy = {"endpoint": "create_job", "kind": "status", "status": 429, "retry_after": 60, "times": 2}
    emulator.set_faults({"calls": [busy]})
    clock = ManualClock()
    submit(submitter(clock=clock), urls(1))
    assert clock.waits == [60.0, 60.0]
    assert once_each(emulator, urls(1))
