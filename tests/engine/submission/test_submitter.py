"""From targets to jobs: each batch is sent once, whoever else is at it and whatever becomes of the answer."""

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
from scrapedo_dagster.engine.errors import NeverArrivesError
from scrapedo_dagster.engine.ledger.records import RETENTION, PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile
from scrapedo_dagster.engine.submission.settings import Limits
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]


def submit(submitter: Submitter, urls: list[str]) -> list[SubmissionWithTargets]:
    return submitter.submit(submitter.begin(validated_entries(urls, "skip")).number)


def once_each(emulator: Emulator, urls: list[str]) -> bool:
    return {url: count.submitted for url, count in emulator.targets().items()} == dict.fromkeys(urls, 1)


def test_each_batch_is_a_job(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    submissions = submit(submitter(batch_size=2), urls(1, 2, 3, 4, 5))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1, 2)), tuple(urls(3, 4)), tuple(urls(5))]
    assert [each.job_id for each in submissions] == [job.job_id for job in emulator.jobs()]
    assert {each.state for each in submissions} == {State.SUBMITTED}


def test_options_are_sent_and_told_apart(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
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
def test_a_refusal_that_passes_is_waited_for(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, fault: dict[str, Any]
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "times": 4, **fault}]})
    submit(submitter(), urls(1, 2))
    assert once_each(emulator, urls(1, 2))
    assert emulator.requests()["create_job"] == 5


def test_a_refusal_that_stays_is_raised_and_the_batch_is_planned_again(
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


def test_a_service_that_asks_to_wait_for_longer_than_a_claim_lasts_is_not_waited_for(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 429, "retry_after": 3600}]})
    with pytest.raises(RateLimitError):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    assert emulator.requests()["create_job"] == 1


def test_a_service_that_is_not_there_leaves_the_plan(submitter: MakeSubmitter, urls: Urls, ledger: Any) -> None:
    with ScrapeDoAsyncAPIClient("t", base_url="http://127.0.0.1:1") as nowhere:
        worker = submitter(client=nowhere)
        ledger.generations.plan(worker.ref, 1, [validated_entries(urls(1), "raise")], fingerprint="f", run_id=None)
        with pytest.raises(APIConnectionError):
            worker.submit(1)
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]


def test_a_batch_that_the_service_refuses_is_named_and_planned_again(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 400}]})
    with pytest.raises(BadRequestError):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    assert emulator.requests()["create_job"] == 1


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


def test_answer_that_comes_after_it_was_planned_again_is_taken_in_place_of_another_job(
    late_submitter: Callable[..., Submitter], emulator: Emulator, urls: Urls, ledger: Any
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
    assert any("sent once too often" in line and first.job_id in line for line in submitter.said)


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
    assert not any("once too often" in line for line in submitter.said)


def test_an_open_generation_is_continued_with_its_own_targets(submitter: Any, emulator: Emulator, urls: Urls) -> None:
    submit(submitter(), urls(1, 2))
    submit(submitter(), urls(2, 3))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1, 2))]
    assert any("its 1 new targets wait for the next generation" in line for line in submitter.said)


def test_a_new_generation_is_above_the_files(submitter: MakeSubmitter, urls: Urls) -> None:
    assert submitter().begin(validated_entries(urls(1), "raise"), above=7).number == 8


def test_who_waits_for_a_turn_says_so_once(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 200, "match": "*products/1"}]})  # 0.4 s
    worker = submitter(batch_size=1, limits=Limits(max_open_jobs=1))
    submit(worker, urls(1, 2))
    assert once_each(emulator, urls(1, 2))
    said = submitter.said  # type: ignore[attr-defined]
    assert len(said) == 1
    assert "1 batches wait to be submitted: the account has too many other open jobs" in said[0]


def test_a_service_that_never_gets_what_it_is_sent_holds_no_run_for_ever(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "drop", "when": "before"}]})
    with pytest.raises(NeverArrivesError, match="shop, partition 'mon', batch 0: sent 5 times, and it never arrived"):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    emulator.set_faults({})
    submit(submitter(), urls(1))
    assert once_each(emulator, urls(1))


def test_who_has_no_turn_asks_for_each_open_job_once(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    worker = submitter(batch_size=1, limits=Limits(max_open_jobs=2))
    worker.begin(validated_entries(urls(*range(1, 12)), "raise"))
    assert worker.advance(worker.ledger.submissions.with_targets(worker.ref, 1))
    assert len(emulator.jobs()) == 2
    assert emulator.requests().get("get_job", 0) == 2


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
