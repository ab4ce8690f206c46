"""Which jobs have ended? Reads the inbox, then asks: for few jobs one by one, for many by listing pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from sqlalchemy.exc import SQLAlchemyError

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import IncompleteListingError, NotFoundError, ScrapeDoError
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.inbox.address import submission_key
from scrapedo_dagster.engine.inbox.protocol import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import AnySubmission, Submission

_FEW = 8  # jobs that are asked for one by one
_MARGIN = timedelta(hours=1)  # between our clock and the service's
_MOST_PROBLEMS = 3  # jobs that cannot be asked for before it must be the service that cannot be asked
_NEW = timedelta(seconds=10)  # a job may not be there to be read in the moment after it was made
_SILENT = timedelta(minutes=2)  # between two polls of a job of which nothing was delivered
_TOLD = timedelta(minutes=10)  # and of one of which something was
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

OnEnded: TypeAlias = Callable[[Submission, int], None]


@dataclass
class JobPoller:
    """Looks at submitted jobs again and again.

    With an inbox, a job whose tasks were all delivered has ended, and the others are polled seldom: a receiver that is
    down costs time, and no result. `polled_at` is when all of them were looked at last, by the ledger's time.
    """

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    inbox: Inbox | None
    log: Callable[[str], object]
    polled_at: datetime | None = None

    def poll(
        self,
        submissions: Sequence[AnySubmission],
        *,
        on_ended: OnEnded = lambda _submission, _amount: None,
        on_polled: Callable[[AnySubmission], None] = lambda _submission: None,
        deadline: float | None = None,
    ) -> list[AnySubmission]:
        """As `poll_jobs`."""
        now = self.ledger.now()
        arrived = self._arrived(submissions)
        delivered: list[AnySubmission] = []
        polled: list[AnySubmission] = []
        for each in submissions:
            amount = min(len(arrived.get(each.id, ())), each.target_count)
            if amount:
                on_ended(each, amount)
            if amount == each.target_count and self._are_all(arrived.get(each.id, frozenset()), each):
                delivered.append(each)
                on_polled(each)
            elif self.inbox is None or self._is_due(_TOLD if amount else _SILENT, now):
                polled.append(each)
            else:
                on_polled(each)
        left = len(polled)

        def count(submission: AnySubmission) -> None:
            nonlocal left
            left -= 1
            on_polled(submission)

        changed = self.ledger.submissions.mark_all_finished(delivered)
        try:
            changed += poll_jobs(
                self.ledger, self.client, polled, on_ended=on_ended, on_polled=count, deadline=deadline
            )
        finally:
            if not left:  # also where one of them cannot be asked for: it is again in its turn
                self.polled_at = now
        return changed

    def _arrived(self, submissions: Sequence[Submission]) -> dict[int, frozenset[str]]:
        """Which tasks of each submission were delivered."""
        if self.inbox is None:
            return {}
        try:
            news = self.inbox.news([submission_key(each) for each in submissions])
        except (OSError, SQLAlchemyError) as error:
            self.log(f"The inbox cannot be read ({type(error).__name__}); Scrape.do is polled instead.")
            return {}
        return {
            each.id: frozenset(
                arrival.task_id for arrival in news.get(submission_key(each), ()) if arrival.job_id == each.job_id
            )
            for each in submissions
        }

    def _are_all(self, arrived: frozenset[str], submission: Submission) -> bool:
        """Whether so many that arrived are all of a job's tasks."""
        task_ids = self.ledger.submissions.get(submission.id).task_ids
        return arrived.issuperset(task_ids)  # without ids, the number has to do

    def _is_due(self, period: timedelta, now: datetime) -> bool:
        """Whether a period has come to an end since the last look: the same for all jobs, so that they are listed."""
        return self.polled_at is None or (now - _EPOCH) // period > (self.polled_at - _EPOCH) // period


def poll_jobs(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submissions: Sequence[AnySubmission],
    *,
    on_ended: OnEnded = lambda _submission, _amount: None,
    on_polled: Callable[[AnySubmission], None] = lambda _submission: None,
    deadline: float | None = None,
) -> list[AnySubmission]:
    """Ask after submitted jobs and record which have ended. Returns the submissions that changed.

    An unknown status has not ended. A job that the service no longer has is `expired`; one that was submitted a moment
    ago and cannot be found yet has not ended.

    Args:
        ledger: where they are recorded.
        client: their account.
        submissions: those in state submitted.
        on_ended: called with how many of a job's tasks have ended, where it was asked for one by one.
        on_polled: called with each submission that was looked at: first those in the listing, then those that were
            asked for one by one; each in their order.
        deadline: in seconds of `time.monotonic`. After half of the time until then no more pages of the listing are
            asked for, and after it no more jobs are looked at.

    Raises:
        ScrapeDoError: the service could not be asked, or not after some of the jobs. What was learned is recorded.
    """
    listed = _listed(client, submissions, deadline) if len(submissions) > _FEW else {}
    ended: list[AnySubmission] = []
    expired: list[AnySubmission] = []
    problems: list[ScrapeDoError] = []
    for submission in sorted(submissions, key=lambda each: each.job_id not in listed):
        if deadline is not None and time.monotonic() >= deadline:
            break
        job = listed.get(submission.job_id or "")
        if job is None:
            # Few jobs; or one that the listing left out, because it is gone or does not tell when it began, or because
            # the listing was cut short.
            try:
                job = client.get_job(submission.job_id or "")
            except NotFoundError as error:
                on_polled(submission)
                if submission.submitted_at is None or ledger.now() - submission.submitted_at >= _NEW:
                    expired += _expired(ledger, submission, str(error))
                continue
            except ScrapeDoError as error:
                if not error.may_concern_one_resource:
                    problems.insert(0, error)
                    break
                on_polled(submission)
                problems.append(error)
                if len(problems) == _MOST_PROBLEMS:
                    break
                continue
            on_ended(submission, sum(task.is_terminal for task in job.tasks))
        on_polled(submission)
        if job.is_terminal:
            ended.append(submission)
    changed = ledger.submissions.mark_all_finished(ended) + expired
    if problems:
        raise problems[0]
    return changed


def _listed(
    client: ScrapeDoAsyncAPIClient, submissions: Sequence[AnySubmission], deadline: float | None
) -> dict[str, JobDetails]:
    """What the listing tells: all of it, or as much as there is time for."""
    since = min(each.submitted_at for each in submissions if each.submitted_at) - _MARGIN
    until = None if deadline is None else (time.monotonic() + deadline) / 2
    listed: dict[str, JobDetails] = {}
    with suppress(IncompleteListingError):
        for job in client.iter_jobs(JobsQuery(start_from=since)):
            listed[job.job_id] = job
            if until is not None and time.monotonic() >= until:
                break
    return listed


def _expired(ledger: Ledger, submission: AnySubmission, reason: str) -> Iterable[AnySubmission]:
    try:
        return [ledger.submissions.mark_expired(submission, reason)]
    except LostClaimError:
        return []  # another worker has recorded it
