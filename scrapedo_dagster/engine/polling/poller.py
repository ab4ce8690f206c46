"""Finds out which jobs have ended: from deliveries, then by polling. Few jobs one by one, many by listing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from sqlalchemy.exc import SQLAlchemyError

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import IncompleteListingError, NotFoundError, ScrapeDoError
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import AnySubmission, Submission
from scrapedo_dagster.engine.webhook_address import submission_key

OnEnded: TypeAlias = Callable[[Submission, int], None]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class PollPolicy:
    """How jobs are polled, and how often those with a webhook.

    Attributes:
        few: up to so many jobs are requested one by one; more are listed, 100 a page.
        max_errors: after so many jobs that cannot be read it must be the service, and polling stops.
        new: a job submitted less than this ago may not be readable yet; 404 does not mean that it expired.
        clock_margin: difference between the ledger's clock and the service's.
        undelivered_every: time between two polls of a job of which no task was delivered.
        delivered_every: time between two polls of a job of which some tasks were delivered.
    """

    few: int = 8
    max_errors: int = 3
    new: timedelta = timedelta(seconds=10)
    clock_margin: timedelta = timedelta(hours=1)
    undelivered_every: timedelta = timedelta(minutes=2)
    delivered_every: timedelta = timedelta(minutes=10)


@dataclass
class JobPoller:
    """Polls the submitted jobs of one account again and again.

    With an inbox, a job whose tasks were all delivered has ended, and the others are polled seldom: if the receiver is
    down, results come later, and none is lost.

    Attributes:
        ledger: where ended jobs are recorded.
        client: of the account.
        inbox: where tasks are delivered, or None: then every poll asks Scrape.do.
        log: called with lines for a person.
        polled_at: when all jobs were polled last, by the ledger's clock. `poll` changes it.
        policy: which jobs are polled how and when.
    """

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    inbox: Inbox | None
    log: Callable[[str], object]
    polled_at: datetime | None = None
    policy: PollPolicy = field(default_factory=PollPolicy)
    clock: Clock = SYSTEM_CLOCK

    def poll(
        self,
        submissions: Sequence[AnySubmission],
        *,
        on_ended: OnEnded = lambda _submission, _amount: None,
        on_polled: Callable[[AnySubmission], None] = lambda _submission: None,
        deadline: float | None = None,
    ) -> list[AnySubmission]:
        """Read the inbox, ask Scrape.do for the other jobs that are due, and record which have ended.

        A job with an unknown status has not ended. A job that the service no longer has is expired.

        Args:
            submissions: in state submitted.
            on_ended: called with a submission and how many of its tasks have ended, where that is known: if any was
                delivered, and if its job was requested by itself.
            on_polled: called with each submission that is done with: first those that were delivered or are not due,
                then those in the listing, then those that were requested one by one.
            deadline: time by the clock after which no job is requested any more. The listing stops halfway to it.

        Returns:
            The submissions that were recorded as finished or expired, as they are now.

        Raises:
            ScrapeDoError: some jobs could not be polled. What was learned of the others is recorded.
        """
        now = self.ledger.now()
        deliveries = self._delivered_task_ids(submissions)
        delivered: list[AnySubmission] = []
        due: list[AnySubmission] = []
        for each in submissions:
            task_ids = deliveries.get(each.id, frozenset())
            ended = min(len(task_ids), each.target_count)
            if ended:
                on_ended(each, ended)
            if ended == each.target_count and self._are_all_tasks(task_ids, each):
                delivered.append(each)
            elif self.inbox is None or self._is_due(ended, now):
                due.append(each)
                continue
            on_polled(each)
        left = len(due)

        def count(submission: AnySubmission) -> None:
            nonlocal left
            left -= 1
            on_polled(submission)

        changed = self.ledger.submissions.mark_all_finished(delivered)
        try:
            return changed + self._ask_for(due, on_ended, count, deadline)
        finally:
            if not left:  # even if some could not be read: those are polled again when they are due
                self.polled_at = now

    def _ask_for(
        self,
        submissions: Sequence[AnySubmission],
        on_ended: OnEnded,
        on_polled: Callable[[AnySubmission], None],
        deadline: float | None,
    ) -> list[AnySubmission]:
        """Ask Scrape.do for jobs, few one by one and many by listing, and record which have ended."""
        listed = self._list_jobs(submissions, deadline) if len(submissions) > self.policy.few else {}
        ended: list[AnySubmission] = []
        expired: list[AnySubmission] = []
        errors: list[ScrapeDoError] = []
        for submission in sorted(submissions, key=lambda each: each.job_id not in listed):
            if deadline is not None and self.clock.monotonic() >= deadline:
                break
            job = listed.get(submission.job_id or "")
            if job is None:
                # Few jobs; or one that is missing from the listing, because it is gone, its start is hidden, or the
                # listing was cut short.
                try:
                    job = self.client.get_job(submission.job_id or "")
                except NotFoundError as error:
                    on_polled(submission)
                    expired += self._mark_expired(submission, str(error))
                    continue
                except ScrapeDoError as error:
                    if not error.may_concern_one_resource:
                        errors.insert(0, error)
                        break
                    on_polled(submission)
                    errors.append(error)
                    if len(errors) == self.policy.max_errors:
                        break
                    continue
                on_ended(submission, sum(task.is_terminal for task in job.tasks))
            on_polled(submission)
            if job.is_terminal:
                ended.append(submission)
        changed = self.ledger.submissions.mark_all_finished(ended) + expired
        if errors:
            raise errors[0]
        return changed

    def _list_jobs(self, submissions: Sequence[Submission], deadline: float | None) -> dict[str, JobDetails]:
        """Return the listed jobs since the oldest submission by id; some of them if the listing is cut short."""
        since = min(each.submitted_at for each in submissions if each.submitted_at) - self.policy.clock_margin
        until = None if deadline is None else (self.clock.monotonic() + deadline) / 2
        listed: dict[str, JobDetails] = {}
        with suppress(IncompleteListingError):
            for job in self.client.iter_jobs(JobsQuery(start_from=since)):
                listed[job.job_id] = job
                if until is not None and self.clock.monotonic() >= until:
                    break
        return listed

    def _mark_expired(self, submission: AnySubmission, reason: str) -> list[AnySubmission]:
        """Record that a job is gone, unless it is new. Returns the submission if it was recorded."""
        if submission.submitted_at and self.ledger.now() - submission.submitted_at < self.policy.new:
            return []
        try:
            return [self.ledger.submissions.mark_expired(submission, reason)]
        except LostClaimError:
            return []  # another worker recorded it

    def _delivered_task_ids(self, submissions: Sequence[Submission]) -> dict[int, frozenset[str]]:
        """Return the ids of the delivered tasks by submission; nothing if the inbox cannot be read."""
        if self.inbox is None:
            return {}
        try:
            news = self.inbox.arrivals([submission_key(each) for each in submissions])
        except (OSError, SQLAlchemyError) as error:
            self.log(f"The inbox cannot be read ({type(error).__name__}); Scrape.do is polled instead.")
            return {}
        return {
            each.id: frozenset(
                arrival.task_id for arrival in news.get(submission_key(each), ()) if arrival.job_id == each.job_id
            )
            for each in submissions
        }

    def _are_all_tasks(self, task_ids: frozenset[str], submission: Submission) -> bool:
        """Return whether these, which are enough, are the tasks of a job. Without known ids the number decides."""
        return task_ids.issuperset(self.ledger.submissions.get(submission.id).task_ids)

    def _is_due(self, ended: int, now: datetime) -> bool:
        """Return whether a period has ended since the last poll. All jobs share it, so that they are listed."""
        period = self.policy.delivered_every if ended else self.policy.undelivered_every
        return self.polled_at is None or (now - _EPOCH) // period > (self.polled_at - _EPOCH) // period
