"""Which jobs have ended: few are asked for one by one, many by listing pages, and nothing is concluded from silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import AuthenticationError, ScrapeDoError
from scrapedo_dagster.api.requests import JobRequest, JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.poller import JobPoller
from tests.support.clock import ManualClock

Urls = Callable[..., list[str]]
Submit = Callable[..., list[SubmissionWithTargets]]
Poll = Callable[..., list[SubmissionWithTargets]]
LINGER = {"kind": "linger", "status": "pending", "match": "*/products/2*"}


@pytest.fixture
def submitted(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, plan: Callable[..., list[SubmissionWithTargets]]
) -> Submit:
    """Batches that are jobs, as a worker sees them."""

    def submitted(*batches: list[str]) -> list[SubmissionWithTargets]:
        found = []
        for planned in plan(*batches):
            claimed = ledger.submissions.claim(planned, run_id="run", fingerprint="f")
            assert claimed
            job = client.create_job(JobRequest(targets=list(planned.targets)))
            found.append(ledger.submissions.mark_submitted(claimed, job.job_id, job.task_ids))
        return found

    return submitted


@pytest.fixture
def poll(ledger: Ledger, client: ScrapeDoAsyncAPIClient) -> Poll:
    return JobPoller(ledger, client, None, print).poll


@pytest.fixture
def ended(emulator: Emulator, eventually: Callable[..., Any]) -> Callable[[int], None]:
    """Wait until so many jobs have ended."""
    return lambda amount: eventually(lambda: sum(job.status == "success" for job in emulator.jobs()) >= amount)


@pytest.mark.parametrize("others", [0, 20], ids=["few", "many"])
def test_jobs_that_have_ended_are_finished_and_the_others_are_not(
    submitted: Submit,
    ended: Callable[[int], None],
    ledger: Ledger,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    others: int,
) -> None:
    emulator.set_faults({"targets": [LINGER]})
    submissions = submitted(urls(1), urls(2), urls(3, 2), *([url] for url in urls(*range(30, 30 + others))))
    ended(1 + others)
    changed = poll(submissions)
    assert [each.id for each in changed] == [each.id for each in (submissions[0], *submissions[3:])]
    assert {ledger.submissions.get(each.id).state for each in changed} == {State.FINISHED}
    assert [ledger.submissions.get(each.id).state for each in submissions[1:3]] == [State.SUBMITTED] * 2


def test_few_jobs_are_requested_one_by_one(submitted: Submit, poll: Poll, emulator: Emulator, urls: Urls) -> None:
    poll(submitted(*([url] for url in urls(*range(1, 9)))))
    assert emulator.requests()["get_job"] == 8
    assert emulator.requests().get("list_jobs", 0) == 0


def test_many_jobs_cost_a_request_a_hundred(
    submitted: Submit,
    ended: Callable[[int], None],
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    changes: list[str],
) -> None:
    submissions = submitted(*([url] for url in urls(*range(1, 116))))
    ended(115)
    changes.clear()
    assert len(poll(submissions)) == 115
    assert len(changes) == 1
    assert emulator.requests()["list_jobs"] == 2
    assert emulator.requests().get("get_job", 0) == 0


def test_jobs_that_the_listing_by_time_leaves_out_are_requested(
    submitted: Submit, ledger: Ledger, poll: Poll, emulator: Emulator, urls: Urls
) -> None:
    """A service that hides when running jobs began lists none of them by time."""
    emulator.set_faults({"wire": {"times_before_end": "hidden"}, "targets": [{"kind": "linger", "status": "pending"}]})
    submissions = submitted(*([url] for url in urls(*range(1, 12))))
    assert poll(submissions) == []
    assert emulator.requests()["get_job"] == 11
    assert {each.state for each in ledger.submissions.find()} == {State.SUBMITTED}


@pytest.mark.parametrize("amount", [1, 12])
@pytest.mark.parametrize("status", ["verifying", "done", "completed", "failed"])
def test_an_unknown_status_has_not_ended(
    submitted: Submit,
    ledger: Ledger,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    eventually: Callable[..., Any],
    status: str,
    amount: int,
) -> None:
    emulator.set_faults({"jobs": [{"end_status": status}]})
    submissions = submitted(*([url] for url in urls(*range(1, 1 + amount))))
    eventually(lambda: all(job.status == status for job in emulator.jobs()))
    assert poll(submissions) == []
    assert {each.state for each in ledger.submissions.find()} == {State.SUBMITTED}


@pytest.mark.parametrize("status", ["success", "error", "canceled"])
def test_each_end_is_an_end(
    submitted: Submit,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    eventually: Callable[..., Any],
    status: str,
) -> None:
    emulator.set_faults({"jobs": [{"end_status": status}]})
    submissions = submitted(urls(1))
    eventually(lambda: emulator.jobs()[0].status == status)
    [changed] = poll(submissions)
    assert changed.state == State.FINISHED


@pytest.mark.parametrize("amount", [2, 12], ids=["few", "many"])
def test_jobs_that_the_service_no_longer_has_are_expired_with_a_reason(
    submitted: Submit,
    ledger: Any,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    amount: int,
) -> None:
    submissions = submitted(*([url] for url in urls(*range(1, 1 + amount))))
    emulator.advance(timedelta(days=3, seconds=1))
    ledger.ahead = timedelta(days=3, seconds=1)
    changed = poll(submissions)
    assert {each.state for each in changed} == {State.EXPIRED}
    assert len(changed) == amount
    assert all("404" in (each.reason or "") and (each.job_id or "") in (each.reason or "") for each in changed)


def test_a_new_job_that_cannot_be_found_yet_is_not_taken_for_expired(
    submitted: Submit, ledger: Any, poll: Poll, emulator: Emulator, urls: Urls
) -> None:
    """What was just written can be read a moment later; to conclude that it has expired would lose it."""
    submissions = submitted(urls(1))
    emulator.set_faults({"calls": [{"endpoint": "get_job", "kind": "status", "status": 404}]})
    assert poll(submissions) == []
    ledger.ahead = timedelta(minutes=1)
    [changed] = poll(submissions)
    assert changed.state == State.EXPIRED


@pytest.mark.parametrize("amount", [3, 12], ids=["few", "many"])
def test_transient_faults_are_retried(
    submitted: Submit,
    ended: Callable[[int], None],
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    amount: int,
) -> None:
    submissions = submitted(*([url] for url in urls(*range(1, 1 + amount))))
    ended(amount)
    kinds: list[dict[str, Any]] = [
        {"kind": "drop"},
        {"kind": "status", "status": 502, "body": "html"},
        {"kind": "truncate"},
    ]
    emulator.set_faults({"calls": [{"endpoint": "*", "times": 1, **kind} for kind in kinds]})
    assert len(poll(submissions)) == amount


@pytest.mark.parametrize(
    "fault", [{"kind": "drop"}, {"kind": "status", "status": 503}, {"kind": "status", "status": 401}]
)
@pytest.mark.parametrize("amount", [3, 12], ids=["few", "many"])
def test_lasting_faults_conclude_nothing(
    submitted: Submit,
    ended: Callable[[int], None],
    ledger: Ledger,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
    amount: int,
    fault: dict[str, Any],
) -> None:
    submissions = submitted(*([url] for url in urls(*range(1, 1 + amount))))
    ended(amount)
    emulator.set_faults({"calls": [{"endpoint": "*", **fault}]})
    with pytest.raises(ScrapeDoError):
        poll(submissions)
    assert {each.state for each in ledger.submissions.find()} == {State.SUBMITTED}


def test_what_was_learned_before_and_after_a_fault_is_recorded(
    submitted: Submit,
    ended: Callable[[int], None],
    ledger: Ledger,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
) -> None:
    submissions = submitted(urls(1), urls(2), urls(3))
    ended(3)
    emulator.set_faults({"calls": [{"endpoint": "get_job", "kind": "drop", "match": "*/products/2"}]})
    with pytest.raises(ScrapeDoError):
        poll(submissions)
    assert [ledger.submissions.get(each.id).state for each in submissions] == [
        State.FINISHED,
        State.SUBMITTED,
        State.FINISHED,
    ]


def test_what_was_learned_before_the_service_refuses_is_recorded(
    submitted: Submit,
    ended: Callable[[int], None],
    ledger: Ledger,
    poll: Poll,
    emulator: Emulator,
    urls: Urls,
) -> None:
    submissions = submitted(urls(1), urls(2), urls(3))
    ended(3)
    refusal = {"endpoint": "get_job", "kind": "status", "status": 401, "match": "*/products/2"}
    emulator.set_faults({"calls": [refusal]})
    with pytest.raises(AuthenticationError):
        poll(submissions)
    assert [ledger.submissions.get(each.id).state for each in submissions] == [
        State.FINISHED,
        State.SUBMITTED,
        State.SUBMITTED,
    ]


def test_what_another_worker_has_recorded_is_no_error(
    submitted: Submit,
    ended: Callable[[int], None],
    ledger: Ledger,
    poll: Poll,
    urls: Urls,
) -> None:
    submissions = submitted(urls(1), urls(2))
    ended(2)
    ledger.submissions.mark_finished(submissions[0])
    assert [each.id for each in poll(submissions)] == [submissions[1].id]


def test_progress_is_reported_of_each_job_that_was_requested(
    submitted: Submit,
    ended: Callable[[int], None],
    poll: Poll,
    urls: Urls,
) -> None:
    submissions = submitted(urls(1, 2), urls(3))
    ended(2)
    seen: list[tuple[int, int]] = []
    poll(submissions, on_ended=lambda each, amount: seen.append((each.id, amount)))
    assert seen == [(submissions[0].id, 2), (submissions[1].id, 1)]


def test_without_jobs_there_is_no_request(poll: Poll, emulator: Emulator) -> None:
    assert poll([]) == []
    assert emulator.requests() == {}


def test_after_the_deadline_no_job_is_requested(
    submitted: Submit, ledger: Ledger, client: ScrapeDoAsyncAPIClient, emulator: Emulator, urls: Urls
) -> None:
    clock = ManualClock()
    poller = JobPoller(ledger, client, None, print, clock=clock)
    submissions = submitted(urls(1))
    assert poller.poll(submissions, deadline=clock.now) == []
    assert emulator.requests().get("get_job", 0) == 0
    poller.poll(submissions, deadline=clock.now + 1)
    assert emulator.requests()["get_job"] == 1


class SlowListing:
    """A client whose listing takes a second for each job."""

    def __init__(self, client: ScrapeDoAsyncAPIClient, clock: ManualClock) -> None:
        self._client, self._clock = client, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def iter_jobs(self, query: JobsQuery) -> Iterator[JobDetails]:
        for job in self._client.iter_jobs(query):
            self._clock.sleep(1)
            yield job


def test_the_listing_stops_halfway_to_the_deadline(
    submitted: Submit, ledger: Ledger, client: ScrapeDoAsyncAPIClient, emulator: Emulator, urls: Urls
) -> None:
    clock = ManualClock()
    slow: Any = SlowListing(client, clock)
    polled: list[SubmissionWithTargets] = []
    submissions = submitted(*([url] for url in urls(*range(1, 13))))
    JobPoller(ledger, slow, None, print, clock=clock).poll(submissions, on_polled=polled.append, deadline=clock.now + 8)
    assert len(polled) == 12
    assert clock.waits == [1.0] * 4
    assert emulator.requests()["get_job"] == 12 - 4
