"""Sends one batch: claims it in the ledger, POSTs it, and records the answer.

A batch whose answer is lost becomes `uncertain`. Whether it is sent again is decided in `reconcile`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotAcceptableError, NotFoundError, ScrapeDoError, SubmissionUncertainError
from scrapedo_dagster.api.responses import JobCreationResponse
from scrapedo_dagster.api.retry import RetryPolicy
from scrapedo_dagster.engine.clock import Clock
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.threads import run_uninterrupted

_ONCE = RetryPolicy(attempts=1)  # the claim must be renewed before another attempt


@dataclass
class BatchSender:
    """Sends one batch; each batch needs a new one.

    Attributes:
        claimed: the submission as it was claimed last.
        stop: set to make no further attempt.
    """

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    settings: SubmissionSettings
    log: Callable[[str], object]
    clock: Clock
    claimed: SubmissionWithTargets | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def send(self, submission: SubmissionWithTargets) -> bool:
        """Send a planned batch. Returns False if another worker claimed it first.

        Raises:
            ScrapeDoError: the batch provably did not arrive, and is planned again.
            LostClaimError: another worker changed the submission meanwhile.
        """
        if not submission.targets:
            self.ledger.submissions.mark_finished(submission)
            return True
        try:
            # Not in the main thread, where an interrupt could fall between the POST and its record.
            return run_uninterrupted(
                lambda: self._claim_and_post(submission),
                on_interrupt=self.stop.set,
                grace=self.settings.claim_policy.grace,
            )
        except BaseException:
            # If the request is still on its way, the next worker need not wait until the lease ends.
            with suppress(Exception):
                if self.claimed is not None:
                    self.ledger.submissions.mark_uncertain(self.claimed, "interrupted while it was sent")
            raise

    def _claim_and_post(self, submission: SubmissionWithTargets) -> bool:
        store = self.ledger.submissions
        claimed = self._claim(submission)
        if claimed is None:
            return False
        request = self.settings.options_for(claimed).job(claimed.targets)
        for attempt in itertools.count():
            if self.stop.is_set():
                store.release(claimed, "interrupted before it was sent")
                break
            try:
                created = self.client.create_job(request, retry=_ONCE)
            except SubmissionUncertainError as error:
                store.mark_uncertain(claimed, str(error))
                break
            except ScrapeDoError as error:  # any other error means that it did not arrive
                pause = self._pause_before_retry(error, attempt)
                if pause is None:
                    store.release(claimed, str(error))
                    raise
                self.clock.wait(self.stop, pause)
                self.claimed = claimed = store.renew(claimed)
            else:
                self._record(claimed, created)
                break
        return True

    def _claim(self, submission: SubmissionWithTargets) -> SubmissionWithTargets | None:
        self.claimed = self.ledger.submissions.claim(
            submission, run_id=self.settings.run_id, fingerprint=self.settings.fingerprint
        )
        return self.claimed

    def _pause_before_retry(self, error: ScrapeDoError, attempt: int) -> float | None:
        """Return the seconds until the batch is sent again, or None if it is not."""
        retry = self.settings.retry
        pause = max(retry.backoff.pause(attempt), getattr(error, "retry_after", None) or 0.0)
        may_retry = error.transient and attempt + 1 < retry.attempts and pause <= retry.max_retry_after
        return pause if may_retry else None

    def _record(self, claimed: SubmissionWithTargets, created: JobCreationResponse) -> None:
        """Record the job of a batch, also if the claim was lost before its answer came."""
        store = self.ledger.submissions
        try:
            store.mark_submitted(claimed, created.job_id, created.task_ids)
        except LostClaimError:
            current = store.get(claimed.id)
        else:
            return
        if created.job_id in store.known_job_ids(claimed.ref.account):
            # Another worker adopted this job: for this batch, or for another one with the same targets. In the second
            # case the job of that batch may be the one of ours.
            if current.state == State.SUBMITTING and current.claim == claimed.claim:
                store.mark_uncertain(
                    current, f"job {created.job_id} was adopted for another batch with the same targets"
                )
        elif current.state == State.UNCERTAIN and current.claim == claimed.claim:
            self._record(current, created)
        elif current.state == State.PLANNED and (again := self._claim(current)) is not None:
            self._record(again, created)  # it was not sent again yet
        else:
            self._cancel_surplus(claimed, created.job_id)

    def _cancel_surplus(self, claimed: SubmissionWithTargets, job_id: str) -> None:
        """Cancel a job in whose place another was sent, or whose batch was canceled."""
        try:
            self.client.cancel_job(job_id)
        except (NotAcceptableError, NotFoundError):
            result = "has ended already and may have been charged"
        else:
            result = "is canceled"
        self.log(f"{claimed.ref}, batch {claimed.batch}: sent once too often; job {job_id} {result}.")
