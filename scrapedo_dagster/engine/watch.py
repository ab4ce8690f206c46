"""Which jobs have ended? Asks for few jobs one by one, for many by listing pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotFoundError
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.engine.ledger import Ledger, LostClaimError, Submission

_FEW = 8  # jobs that are asked for one by one
_MARGIN = timedelta(hours=1)  # between our clock and the service's
_NEW = timedelta(seconds=10)  # a job may not be there to be read in the moment after it was made


def refresh(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submissions: Sequence[Submission],
    *,
    on_job: Callable[[Submission, JobDetails], None] = lambda _submission, _job: None,
) -> list[Submission]:
    """Ask after submitted jobs and record which have ended. Returns the submissions that changed.

    An unknown status has not ended. A job that the service no longer has is `expired`; one that was submitted a moment
    ago and cannot be found yet has not ended.

    Args:
        ledger: where they are recorded.
        client: their account.
        submissions: those in state submitted.
        on_job: called with each job that was asked for one by one, which tells its tasks.

    Raises:
        ScrapeDoError: the service could not be asked. What was learned before is recorded.
    """
    listed = _listed(client, submissions) if len(submissions) > _FEW else {}
    changed: list[Submission] = []
    for submission in submissions:
        job = listed.get(submission.job_id or "")
        if job is None:
            # Few jobs; or one that the listing by time left out, because it is gone or does not tell when it began.
            try:
                job = client.get_job(submission.job_id or "")
            except NotFoundError as error:
                if submission.submitted_at is not None and ledger.now() - submission.submitted_at < _NEW:
                    continue
                changed += _record(partial(ledger.expired, reason=str(error)), submission)
                continue
            on_job(submission, job)
        if job.is_terminal:
            changed += _record(ledger.finished, submission)
    return changed


def _listed(client: ScrapeDoAsyncAPIClient, submissions: Sequence[Submission]) -> dict[str, JobDetails]:
    since = min(each.submitted_at for each in submissions if each.submitted_at) - _MARGIN
    return {job.job_id: job for job in client.iter_jobs(JobsQuery(start_from=since))}


def _record(transition: Callable[[Submission], Submission], submission: Submission) -> Iterable[Submission]:
    try:
        return [transition(submission)]
    except LostClaimError:
        return []  # another worker has recorded it
