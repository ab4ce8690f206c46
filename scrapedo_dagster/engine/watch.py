"""Which jobs have ended? Asks for few jobs one by one, for many by listing pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotFoundError
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.engine.ledger import Held, Ledger, LostClaimError

_FEW = 8  # jobs that are asked for one by one
_MARGIN = timedelta(hours=1)  # between our clock and the service's
_NEW = timedelta(seconds=10)  # a job may not be there to be read in the moment after it was made


def refresh(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submissions: Sequence[Held],
    *,
    on_job: Callable[[Held, JobDetails], None] = lambda _submission, _job: None,
    on_looked: Callable[[Held], None] = lambda _submission: None,
    deadline: float | None = None,
) -> list[Held]:
    """Ask after submitted jobs and record which have ended. Returns the submissions that changed.

    An unknown status has not ended. A job that the service no longer has is `expired`; one that was submitted a moment
    ago and cannot be found yet has not ended.

    Args:
        ledger: where they are recorded.
        client: their account.
        submissions: those in state submitted.
        on_job: called with each job that was asked for one by one, which tells its tasks.
        on_looked: called with each submission, in their order, of which it is known whether it has ended.
        deadline: in seconds of `time.monotonic`. After it no more jobs are asked for one by one.

    Raises:
        ScrapeDoError: the service could not be asked. What was learned before is recorded.
    """
    listed = _listed(client, submissions) if len(submissions) > _FEW else {}
    changed: list[Held] = []
    for submission in submissions:
        job = listed.get(submission.job_id or "")
        if job is None:
            if deadline is not None and time.monotonic() >= deadline:
                break
            # Few jobs; or one that the listing by time left out, because it is gone or does not tell when it began.
            try:
                job = client.get_job(submission.job_id or "")
            except NotFoundError as error:
                on_looked(submission)
                if submission.submitted_at is None or ledger.now() - submission.submitted_at >= _NEW:
                    changed += _record(partial(ledger.expired, reason=str(error)), submission)
                continue
            on_job(submission, job)
        on_looked(submission)
        if job.is_terminal:
            changed += _record(ledger.finished, submission)
    return changed


def _listed(client: ScrapeDoAsyncAPIClient, submissions: Sequence[Held]) -> dict[str, JobDetails]:
    since = min(each.submitted_at for each in submissions if each.submitted_at) - _MARGIN
    return {job.job_id: job for job in client.iter_jobs(JobsQuery(start_from=since))}


def _record(transition: Callable[[Held], Held], submission: Held) -> Iterable[Held]:
    try:
        return [transition(submission)]
    except LostClaimError:
        return []  # another worker has recorded it
