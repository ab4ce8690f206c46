"""Did it arrive? Settles a submission whose answer is lost, against the service's own list of jobs.

A job is adopted if it is no job the ledger knows, began after the claim, and has exactly the submission's targets.
That it is *not* there is concluded only from complete listings, and only once the request has had time to arrive.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import GoneError, NotFoundError
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.api.task_matching import normalize_url
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State

_MARGIN = timedelta(minutes=2)  # between the service's clock and what we know of it
_MARGIN_WITHOUT_CLOCK = timedelta(hours=1)


@dataclass(frozen=True)
class ClaimPolicy:
    """How long to wait before something is concluded from silence.

    Attributes:
        lease: a claim older than this has lost its worker. Longer than one request can take.
        absent_after: a submission that was sent this long ago, and is on no list, did not arrive.
        pause: seconds before the second look at what others are doing, or at what cannot be told yet.
        grace: seconds that a request on its way has for its answer after an interrupt.
    """

    lease: timedelta = timedelta(seconds=180)
    absent_after: timedelta = timedelta(seconds=180)
    pause: float = 2.0
    grace: float = 3.0

    @classmethod
    def for_request_timeout(cls, seconds: float) -> ClaimPolicy:
        """Enough of it for a client that waits so long for each piece of an answer."""
        # To connect, to send and to be answered, and as long again for a service that is only slow.
        longest = timedelta(seconds=2 * 3 * seconds)
        return cls(lease=max(cls.lease, longest), absent_after=max(cls.absent_after, longest))


class _OutOfTimeError(Exception):
    """The deadline came while the list was read."""


def reconcile(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submission: SubmissionWithTargets,
    claim_policy: ClaimPolicy,
    *,
    deadline: float | None = None,
) -> SubmissionWithTargets | None:
    """Find out what became of it: adopted as submitted, planned again, or None where it cannot be told yet.

    That is so, too, where the list is too long to be read until `deadline`, in seconds of `time.monotonic`.

    Raises:
        ScrapeDoError: the service could not be asked. Nothing is concluded.
        LostClaimError: another worker has reconciled it.
    """
    # Asked before the listing: what arrives after this moment may be missing from it.
    asked_at = ledger.now()
    try:
        for job in _candidates(ledger, client, submission, deadline):
            if _same_targets(submission.targets, _urls_of(client, job)):
                if _is_being_sent_elsewhere(ledger, submission, claim_policy):
                    return None
                try:
                    return ledger.submissions.mark_submitted(submission, job.job_id, job.task_ids)
                except LostClaimError:
                    if ledger.submissions.get(submission.id).state != submission.state:
                        raise
                    # The job is another submission's by now; there may be a second one with these targets.
    except _OutOfTimeError:
        return None
    if submission.claimed_at is None or asked_at - submission.claimed_at < claim_policy.absent_after:
        return None
    return ledger.submissions.release(submission, "its submission did not arrive at Scrape.do")


def _candidates(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets, deadline: float | None
) -> Iterator[JobDetails]:
    """The jobs it may have become, each with its tasks: first the likely ones, then all others that are kept."""
    known = ledger.submissions.known_job_ids(submission.ref.account)
    since = _claimed_by_the_services_clock(ledger, client, submission)
    # A service that does not tell when running jobs began leaves them out of a listing by time, so that only the
    # listing of everything can say that a job is not there.
    for query in (JobsQuery(start_from=since), JobsQuery()):
        listed = list(_until(deadline, client.iter_jobs(query)))
        for job in reversed(listed):
            began_before = job.start_time is not None and since is not None and job.start_time < since
            if job.job_id in known or began_before or not _may_have(len(submission.targets), job):
                continue
            known.add(job.job_id)
            try:
                yield client.get_job(job.job_id)
            except NotFoundError:
                continue  # it expired while we looked


def _until(deadline: float | None, jobs: Iterable[JobDetails]) -> Iterator[JobDetails]:
    for job in jobs:
        if deadline is not None and time.monotonic() >= deadline:
            raise _OutOfTimeError
        yield job


def _claimed_by_the_services_clock(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets
) -> datetime | None:
    if submission.claimed_at is None:
        return None
    server_time = client.get_server_time()
    if server_time is None:
        return submission.claimed_at - _MARGIN_WITHOUT_CLOCK
    return submission.claimed_at + (server_time - ledger.now()) - _MARGIN


def _may_have(amount: int, job: JobDetails) -> bool:
    return not job.task_ids or len(job.task_ids) == amount


def _urls_of(client: ScrapeDoAsyncAPIClient, job: JobDetails) -> Iterator[str]:
    # A job that went wrong may no longer tell its tasks; its tasks do.
    for task_id, url in job.task_urls.items():
        try:
            yield url or client.get_task(job.job_id, task_id).url
        except (NotFoundError, GoneError):
            yield ""


def _same_targets(targets: Iterable[str], urls: Iterable[str]) -> bool:
    return Counter(map(normalize_url, targets)) == Counter(map(normalize_url, urls))


def _is_being_sent_elsewhere(ledger: Ledger, submission: SubmissionWithTargets, claim_policy: ClaimPolicy) -> bool:
    """Whether a living worker is sending the same targets, perhaps with other options: the job may be its own."""
    since = ledger.now() - claim_policy.lease
    return any(
        other.id != submission.id
        and _same_targets(other.targets, submission.targets)
        and (other.claimed_at is None or other.claimed_at >= since)
        for other in ledger.submissions.find(account=submission.ref.account, states=[State.SUBMITTING])
    )
