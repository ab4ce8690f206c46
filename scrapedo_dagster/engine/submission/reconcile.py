"""Decides what became of a submission whose answer was lost: it is a job, or it is sent again.

The service's list of jobs decides. A job is adopted if the ledger does not know it, it started after the claim, and it
has exactly the targets of the submission. That there is no such job is concluded only from complete listings, and only
after the request has had time to arrive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import GoneError, NotFoundError
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.api.task_matching import normalize_url
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import Submission, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State

_CLOCK_MARGIN = timedelta(minutes=2)  # error of our estimate of the service's clock
_UNKNOWN_CLOCK_MARGIN = timedelta(hours=1)  # if the service does not send its time


@dataclass(frozen=True)
class ClaimPolicy:
    """How long to wait for other workers and for lost answers.

    Attributes:
        lease: the worker of a claim older than this is dead. Longer than one request can take.
        absent_after: a submission sent this long ago that is in no listing did not arrive.
        pause: seconds before the second check whether another worker, or the service, has moved on.
        max_pause: seconds between two later checks.
        grace: seconds that a request in flight has for its answer after an interrupt.
    """

    lease: timedelta = timedelta(seconds=180)
    absent_after: timedelta = timedelta(seconds=180)
    pause: float = 2.0
    max_pause: float = 15.0
    grace: float = 3.0

    @classmethod
    def for_request_timeout(cls, seconds: float) -> ClaimPolicy:
        """Return a policy for a client with this timeout for each phase of a request."""
        # Connect, send and receive; and as long again for a service that is only slow.
        longest = timedelta(seconds=2 * 3 * seconds)
        return cls(lease=max(cls.lease, longest), absent_after=max(cls.absent_after, longest))

    @property
    def backoff(self) -> Backoff:
        """Pauses between checks."""
        return Backoff(initial=self.pause, maximum=self.max_pause)

    def is_abandoned(self, submission: Submission, now: datetime) -> bool:
        """Return whether the worker that claimed a submission is dead, by the age of the claim."""
        return now - (submission.claimed_at or submission.planned_at) > self.lease


class _DeadlineReachedError(Exception):
    """The deadline came while the jobs were listed."""


def reconcile(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submission: SubmissionWithTargets,
    claim_policy: ClaimPolicy,
    *,
    deadline: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> SubmissionWithTargets | None:
    """Adopt the job of a submission whose answer was lost, or plan it again.

    Args:
        ledger: where the result is recorded.
        client: of the submission's account.
        submission: in state uncertain, or submitting with a dead worker.
        claim_policy: how long a request may take to arrive.
        deadline: time by the clock after which listing stops.
        clock: by which the deadline is.

    Returns:
        The submission as submitted or planned. None while neither is certain, and if the listing took too long.

    Raises:
        ScrapeDoError: the service refused or did not answer. Nothing is recorded.
        LostClaimError: another worker reconciled it.
    """
    # Taken before the listing: a job that arrives later may be missing from it.
    listed_at = ledger.now()
    try:
        for job in _candidates(ledger, client, submission, deadline, clock):
            if _same_targets(submission.targets, _task_urls(client, job)):
                if _is_sent_by_another_worker(ledger, submission, claim_policy):
                    return None
                try:
                    return ledger.submissions.mark_submitted(submission, job.job_id, job.task_ids)
                except LostClaimError:
                    if ledger.submissions.get(submission.id).state != submission.state:
                        raise
                    # The job was recorded for another submission meanwhile. A second one may have these targets.
    except _DeadlineReachedError:
        return None
    if submission.claimed_at is None or listed_at - submission.claimed_at < claim_policy.absent_after:
        return None
    return ledger.submissions.release(submission, "its submission did not arrive at Scrape.do")


def _candidates(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submission: SubmissionWithTargets,
    deadline: float | None,
    clock: Clock,
) -> Iterator[JobDetails]:
    """Yield the jobs that the submission may have become, with their tasks; the likely ones first."""
    known = ledger.submissions.known_job_ids(submission.ref.account)
    since = _claimed_at_by_service_clock(ledger, client, submission)
    # A service that hides the start of running jobs leaves them out of a listing by time. Only the listing of all jobs
    # can show that a job is not there.
    for query in (JobsQuery(start_from=since), JobsQuery()):
        listed = list(_until(deadline, client.iter_jobs(query), clock))
        for job in reversed(listed):
            started_before = job.start_time is not None and since is not None and job.start_time < since
            has_other_size = bool(job.task_ids) and len(job.task_ids) != len(submission.targets)
            if job.job_id in known or started_before or has_other_size:
                continue
            known.add(job.job_id)
            try:
                yield client.get_job(job.job_id)
            except NotFoundError:
                continue  # it expired meanwhile


def _until(deadline: float | None, jobs: Iterable[JobDetails], clock: Clock) -> Iterator[JobDetails]:
    for job in jobs:
        if deadline is not None and clock.monotonic() >= deadline:
            raise _DeadlineReachedError
        yield job


def _claimed_at_by_service_clock(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets
) -> datetime | None:
    if submission.claimed_at is None:
        return None
    server_time = client.get_server_time()
    if server_time is None:
        return submission.claimed_at - _UNKNOWN_CLOCK_MARGIN
    return submission.claimed_at + (server_time - ledger.now()) - _CLOCK_MARGIN


def _task_urls(client: ScrapeDoAsyncAPIClient, job: JobDetails) -> Iterator[str]:
    for task_id, url in job.task_urls.items():
        try:
            # A failed job may leave out the URLs of its tasks; the tasks have them.
            yield url or client.get_task(job.job_id, task_id).url
        except (NotFoundError, GoneError):
            yield ""


def _same_targets(targets: Iterable[str], urls: Iterable[str]) -> bool:
    return Counter(map(normalize_url, targets)) == Counter(map(normalize_url, urls))


def _is_sent_by_another_worker(ledger: Ledger, submission: SubmissionWithTargets, claim_policy: ClaimPolicy) -> bool:
    """Return whether a live worker sends the same targets, maybe with other options: the job may be its own."""
    now = ledger.now()
    return any(
        other.id != submission.id
        and _same_targets(other.targets, submission.targets)
        and (other.claimed_at is None or not claim_policy.is_abandoned(other, now))
        for other in ledger.submissions.find(account=submission.ref.account, states=[State.SUBMITTING])
    )
