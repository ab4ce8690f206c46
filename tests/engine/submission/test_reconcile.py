"""A submission whose answer is lost: the job it became is found and adopted, or it certainly became none."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    IncompleteListingError,
    ServerError,
    SubmissionUncertainError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.requests import JobRequest
from scrapedo_dagster.api.responses import JobsListResponse
from scrapedo_dagster.api.retry import RetryPolicy
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile

Urls = Callable[..., list[str]]
Plan = Callable[..., list[SubmissionWithTargets]]
Reconcile = Callable[..., SubmissionWithTargets | None]

NOW = ClaimPolicy(absent_after=timedelta(0))


@pytest.fixture
def lose(ledger: Ledger, client: ScrapeDoAsyncAPIClient, emulator: Emulator) -> Callable[..., SubmissionWithTargets]:
    """Submit a planned submission so that its answer is lost; by default the job is there."""

    def lose(submission: SubmissionWithTargets, *, arrives: bool = True) -> SubmissionWithTargets:
        wire = emulator.faults.wire
        drop = {"endpoint": "create_job", "kind": "drop", "when": "after" if arrives else "before", "times": 1}
        claimed = ledger.submissions.claim(submission, run_id="run", fingerprint="f")
        assert claimed
        emulator.set_faults({"calls": [drop], "wire": wire.model_dump()})
        with pytest.raises(SubmissionUncertainError):
            client.create_job(JobRequest(targets=list(submission.targets)), retry=RetryPolicy(attempts=1))
        emulator.set_faults({"wire": wire.model_dump()})
        return ledger.submissions.mark_uncertain(claimed, "lost")

    return lose


@pytest.fixture
def reconciled(ledger: Ledger, client: ScrapeDoAsyncAPIClient) -> Reconcile:
    return lambda submission, claim_policy=NOW: reconcile(ledger, client, submission, claim_policy)


def foreign(client: ScrapeDoAsyncAPIClient, *urls: str) -> str:
    """A job of the account that somebody else has submitted."""
    return client.create_job(JobRequest(targets=list(urls))).job_id


def test_the_lost_job_is_adopted(
    plan: Plan, lose: Callable[..., SubmissionWithTargets], reconciled: Reconcile, urls: Urls, emulator: Emulator
) -> None:
    [planned] = plan(urls(1, 2, 3))
    adopted = reconciled(lose(planned))
    [job] = emulator.jobs()
    assert adopted is not None
    assert (adopted.state, adopted.job_id, set(adopted.task_ids)) == (State.SUBMITTED, job.job_id, set(job.task_ids))
    assert adopted.claim is None


def test_a_listing_that_reaches_the_deadline_concludes_nothing(
    plan: Plan, lose: Callable[..., SubmissionWithTargets], ledger: Ledger, client: ScrapeDoAsyncAPIClient, urls: Urls
) -> None:
    lost = lose(plan(urls(1, 2, 3))[0], arrives=False)
    foreign(client, *urls(4))
    assert reconcile(ledger, client, lost, NOW, deadline=time.monotonic()) is None
    assert ledger.submissions.get(lost.id).state == State.UNCERTAIN
    reconciled = reconcile(ledger, client, lost, NOW, deadline=time.monotonic() + 60)
    assert reconciled is not None
    assert reconciled.state == State.PLANNED


def test_the_lost_job_is_found_among_others_of_the_account(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    emulator: Emulator,
    client: ScrapeDoAsyncAPIClient,
) -> None:
    [planned] = plan(urls(1, 2))
    others = [urls(1), urls(1, 2, 3), urls(1, 3), urls(1, 1), urls(2, 3)]
    for other in others[:3]:
        foreign(client, *other)
    lost = lose(planned)
    for other in others[3:]:
        foreign(client, *other)
    adopted = reconciled(lost)
    assert adopted is not None
    assert adopted.job_id == emulator.jobs()[3].job_id


def test_what_never_arrived_is_planned_again(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    client: ScrapeDoAsyncAPIClient,
) -> None:
    [planned] = plan(urls(1, 2))
    foreign(client, *urls(1, 3))
    again = reconciled(lose(planned, arrives=False))
    assert again is not None
    assert (again.state, again.claim, again.job_id) == (State.PLANNED, None, None)
    assert "did not arrive" in (again.reason or "")


def test_two_batches_with_the_same_targets_adopt_two_jobs(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    emulator: Emulator,
    account: str,
) -> None:
    [one] = plan(urls(1, 2), within=PartitionRef(account, "one", None))
    [two] = plan(urls(2, 1), within=PartitionRef(account, "two", None))
    lost = [lose(one), lose(two)]
    adopted = [reconciled(each) for each in lost]
    assert {each.job_id for each in adopted if each} == {job.job_id for job in emulator.jobs()}
    assert len(emulator.jobs()) == 2


def test_of_two_batches_with_the_same_targets_and_one_job_one_is_planned_again(
    plan: Plan, lose: Callable[..., SubmissionWithTargets], reconciled: Reconcile, urls: Urls, account: str
) -> None:
    [one] = plan(urls(1, 2), within=PartitionRef(account, "one", None))
    [two] = plan(urls(1, 2), within=PartitionRef(account, "two", None))
    lost = [lose(one, arrives=False), lose(two)]
    assert sorted(each.state.value for each in map(reconciled, lost) if each) == ["planned", "submitted"]


@pytest.mark.parametrize("state", ["submitted", "finished", "collected", "canceled", "expired"])
def test_a_job_of_the_ledger_is_never_adopted_again(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    ledger: Ledger,
    emulator: Emulator,
    state: str,
) -> None:
    [first] = plan(urls(1))
    known = reconciled(lose(first))
    assert known is not None
    if state in {"finished", "collected"}:
        known = ledger.submissions.mark_finished(known)
    if state == "collected":
        ledger.submissions.mark_collected(known, credits_used=1, succeeded=1)
    if state in {"canceled", "expired"}:
        getattr(ledger.submissions, f"mark_{state}")(known, "why")
    [second] = plan(urls(1), generation=2)
    asked = emulator.requests()["get_job"]
    again = reconciled(lose(second, arrives=False))
    assert again is not None
    assert again.state == State.PLANNED
    assert emulator.requests()["get_job"] == asked, "what the ledger knows need not be asked for"


def test_a_job_that_is_recorded_during_the_listing_is_not_adopted(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    urls: Urls,
    ledger: Ledger,
    account: str,
    client: ScrapeDoAsyncAPIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer came late: the other submission with these targets gets it between our listing and our adoption."""
    mine, theirs = (plan(urls(1), within=PartitionRef(account, name, None))[0] for name in ("mine", "theirs"))
    lost = lose(mine, arrives=False)
    claimed = ledger.submissions.claim(theirs, run_id="other", fingerprint="f")
    assert claimed
    other = ledger.submissions.mark_uncertain(claimed, "lost")
    job_id = foreign(client, *urls(1))
    get_job = client.get_job

    def answer_comes_meanwhile(wanted: str) -> Any:
        job = get_job(wanted)
        if ledger.submissions.get(other.id).state == State.UNCERTAIN:
            ledger.submissions.mark_submitted(other, job_id, [])
        return job

    monkeypatch.setattr(client, "get_job", answer_comes_meanwhile)
    again = reconcile(ledger, client, lost, NOW)
    assert again is not None
    assert again.state == State.PLANNED
    assert ledger.submissions.get(other.id).job_id == job_id


def test_a_job_of_a_batch_that_is_just_being_sent_is_left_to_it(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    ledger: Any,
    account: str,
    client: ScrapeDoAsyncAPIClient,
) -> None:
    """The answer is on its way to a living worker; its batch may have other options than ours."""
    mine, theirs = (plan(urls(1), within=PartitionRef(account, name, None))[0] for name in ("mine", "theirs"))
    lost = lose(mine, arrives=False)
    sending = ledger.submissions.claim(theirs, run_id="other", fingerprint="f")
    job_id = foreign(client, *urls(1))
    assert reconciled(lost) is None
    assert ledger.submissions.mark_submitted(sending, job_id, []).job_id == job_id
    again = reconciled(lost)
    assert again is not None
    assert again.state == State.PLANNED


def test_a_batch_whose_worker_died_while_it_was_sent_blocks_nobody(
    plan: Plan, lose: Callable[..., SubmissionWithTargets], reconciled: Reconcile, urls: Urls, ledger: Any, account: str
) -> None:
    mine, theirs = (plan(urls(1), within=PartitionRef(account, name, None))[0] for name in ("mine", "theirs"))
    lost = lose(mine)
    ledger.submissions.claim(theirs, run_id="dead", fingerprint="f")
    ledger.ahead = NOW.lease + timedelta(seconds=1)
    adopted = reconciled(lost)
    assert adopted is not None
    assert adopted.state == State.SUBMITTED


def test_a_job_from_before_the_claim_is_not_adopted(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    client: ScrapeDoAsyncAPIClient,
    ledger: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another tool, or a ledger that is lost, has scraped the same targets a while ago."""
    foreign(client, *urls(1))
    # All clocks go ahead together, so that the job is in the past.
    later = timedelta(minutes=10)
    server_time = client.get_server_time
    ledger.ahead = later
    monkeypatch.setattr(client, "get_server_time", lambda: (server_time() or datetime.max) + later)
    [planned] = plan(urls(1))
    again = reconciled(lose(planned, arrives=False))
    assert again is not None
    assert again.state == State.PLANNED


@pytest.mark.parametrize("skew", [timedelta(hours=-5), timedelta(minutes=-3), timedelta(minutes=3), timedelta(hours=5)])
def test_the_lost_job_is_found_however_wrong_our_clock_is(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    ledger: Any,
    skew: timedelta,
) -> None:
    ledger.ahead = skew
    [planned] = plan(urls(1, 2))
    adopted = reconciled(lose(planned))
    assert adopted is not None
    assert adopted.state == State.SUBMITTED


@pytest.mark.parametrize("skew", [timedelta(minutes=-30), timedelta(minutes=30)])
def test_a_service_without_a_clock_gets_a_wider_margin(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    client: ScrapeDoAsyncAPIClient,
    ledger: Any,
    monkeypatch: pytest.MonkeyPatch,
    skew: timedelta,
) -> None:
    monkeypatch.setattr(client, "get_server_time", lambda: None)
    ledger.ahead = skew
    [planned] = plan(urls(1, 2))
    adopted = reconciled(lose(planned))
    assert adopted is not None
    assert adopted.state == State.SUBMITTED


WIRES: list[dict[str, Any]] = [
    {"normalize_urls": True, "shuffle_task_ids": True},
    {"times_before_end": "hidden"},
    {"times_before_end": "hidden", "absent": "go", "fraction_digits": 9},
    {"absent": "null", "fraction_digits": 0},
]


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize("wire", WIRES)
def test_the_lost_job_is_found_however_the_service_writes_its_answers(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    emulator: Emulator,
    eventually: Callable[..., Any],
    wire: dict[str, Any],
    ended: bool,
) -> None:
    linger = [] if ended else [{"kind": "linger", "status": "pending"}]
    emulator.set_faults({"wire": wire})
    targets = [url.replace("http://127.0.0.1", "HTTP://LOCALHOST") + "?q=a b"[:4] + "#part" for url in urls(1, 2, 2)]
    [planned] = plan(targets)
    lost = lose(planned)
    emulator.set_faults({"wire": wire, "targets": linger})
    if ended:
        eventually(lambda: emulator.jobs()[0].status == "success")
    adopted = reconciled(lost)
    assert adopted is not None
    assert adopted.job_id == emulator.jobs()[0].job_id


def test_tasks_that_a_job_leaves_out_are_requested(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    emulator: Emulator,
    client: ScrapeDoAsyncAPIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed job may have only the ids of its tasks, as in a listing."""
    get_job = client.get_job
    monkeypatch.setattr(client, "get_job", lambda job_id: get_job(job_id).model_copy(update={"tasks": ()}))
    [planned] = plan(urls(1, 2))
    foreign(client, *urls(1, 3))
    adopted = reconciled(lose(planned))
    assert adopted is not None
    assert adopted.job_id == emulator.jobs()[1].job_id


def test_nothing_is_concluded_before_the_request_had_time_to_arrive(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    ledger: Any,
    emulator: Emulator,
) -> None:
    claim_policy = ClaimPolicy(absent_after=timedelta(seconds=60))
    [planned] = plan(urls(1))
    lost = lose(planned, arrives=False)
    ledger.ahead = timedelta(seconds=50)
    assert reconciled(lost, claim_policy) is None
    assert ledger.submissions.get(lost.id) == lost
    ledger.ahead = timedelta(seconds=61)
    again = reconciled(lost, claim_policy)
    assert again is not None
    assert again.state == State.PLANNED


def test_a_job_that_is_there_is_adopted_at_once(
    plan: Plan, lose: Callable[..., SubmissionWithTargets], reconciled: Reconcile, urls: Urls
) -> None:
    [planned] = plan(urls(1))
    adopted = reconciled(lose(planned), ClaimPolicy(absent_after=timedelta(hours=1)))
    assert adopted is not None
    assert adopted.state == State.SUBMITTED


def test_a_job_that_arrives_during_the_listing_is_not_missed(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    urls: Urls,
    ledger: Any,
    client: ScrapeDoAsyncAPIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The listing takes long: what counts is the time before it, since it shows the jobs of then."""
    [planned] = plan(urls(1))
    lost = lose(planned, arrives=False)
    iter_jobs = client.iter_jobs

    def slowly(query: Any = None) -> Any:
        ledger.ahead = timedelta(minutes=5)
        return iter_jobs(query)

    monkeypatch.setattr(client, "iter_jobs", slowly)
    assert reconcile(ledger, client, lost, ClaimPolicy(absent_after=timedelta(seconds=60))) is None


@pytest.mark.parametrize("arrives", [True, False])
def test_an_incomplete_listing_concludes_nothing(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    urls: Urls,
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    monkeypatch: pytest.MonkeyPatch,
    arrives: bool,
) -> None:
    [planned] = plan(urls(1))
    foreign(client, *urls(2))
    lost = lose(planned, arrives=arrives)
    list_jobs = client.list_jobs

    def without_the_newest(query: Any = None) -> JobsListResponse:
        page = list_jobs(query)
        return page.model_copy(update={"jobs": page.jobs[1:]})

    monkeypatch.setattr(client, "list_jobs", without_the_newest)
    with pytest.raises(IncompleteListingError):
        reconcile(ledger, client, lost, NOW)
    assert ledger.submissions.get(lost.id) == lost


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "drop"}, APIConnectionError),
        ({"kind": "status", "status": 503, "body": "html"}, ServerError),
        ({"kind": "status", "status": 200, "body": "html"}, UnparsableResponseError),
        ({"kind": "truncate"}, APIConnectionError),
    ],
)
@pytest.mark.parametrize("endpoint", ["list_jobs", "get_job", "me"])
def test_without_an_answer_nothing_is_concluded(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    ledger: Ledger,
    emulator: Emulator,
    endpoint: str,
    fault: dict[str, Any],
    error: type[Exception],
) -> None:
    [planned] = plan(urls(1))
    lost = lose(planned)
    emulator.set_faults({"calls": [{"endpoint": endpoint, **fault}]})
    if endpoint == "me" and fault.get("status") == 200:
        return  # an answer whose body is not read; its Date header is what is wanted
    with pytest.raises(error):
        reconciled(lost)
    assert ledger.submissions.get(lost.id) == lost
    emulator.set_faults({})
    adopted = reconciled(lost)
    assert adopted is not None
    assert adopted.state == State.SUBMITTED


def test_a_job_that_expires_during_the_listing_is_no_error(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    emulator: Emulator,
    client: ScrapeDoAsyncAPIClient,
) -> None:
    [planned] = plan(urls(1))
    foreign(client, *urls(2))
    lost = lose(planned)
    emulator.set_faults({"calls": [{"endpoint": "get_job", "kind": "status", "status": 404, "times": 1}]})
    adopted = reconciled(lost)
    assert adopted is not None
    assert adopted.job_id == emulator.jobs()[1].job_id


def test_the_lost_job_is_found_on_later_pages(
    plan: Plan,
    lose: Callable[..., SubmissionWithTargets],
    reconciled: Reconcile,
    urls: Urls,
    emulator: Emulator,
    client: ScrapeDoAsyncAPIClient,
) -> None:
    [planned] = plan(urls(1, 2))
    lost = lose(planned)
    for _ in range(105):  # newer jobs are listed first, 100 a page
        foreign(client, *urls(3))
    adopted = reconciled(lost)
    assert adopted is not None
    assert adopted.job_id == emulator.jobs()[0].job_id
    assert emulator.requests()["get_job"] == 1, "jobs of another size need not be asked for"


def test_one_of_two_workers_reconciles_it(
    plan: Plan, lose: Callable[..., SubmissionWithTargets], reconciled: Reconcile, urls: Urls
) -> None:
    [planned] = plan(urls(1))
    lost = lose(planned)
    assert reconciled(lost) is not None
    with pytest.raises(LostClaimError):
        reconciled(lost)


@pytest.mark.parametrize(
    ("request_timeout", "lease", "absent_after"), [(10, 180, 180), (30, 180, 180), (300, 1800, 1800)]
)
def test_claim_policy_grows_with_the_request_timeout(request_timeout: float, lease: float, absent_after: float) -> None:
    claim_policy = ClaimPolicy.for_request_timeout(request_timeout)
    assert (claim_policy.lease.total_seconds(), claim_policy.absent_after.total_seconds()) == (lease, absent_after)
