"""Cancels open submissions at Scrape.do and in the ledger, within a given time.

Most callers are about to be killed: they must get an answer whatever the service does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from queue import Empty, SimpleQueue

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotAcceptableError, NotFoundError
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import CANCELABLE, State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile

_THREADS = 16
_RECONCILE_EVERY = 0.5  # seconds, while a submission is in no listing


class CancelResult(str, Enum):
    """What became of a submission that was to be canceled."""

    CANCELED = "canceled"
    NEVER_SENT = "never sent"
    ENDED = "ended"
    LEFT = "left"


@dataclass(frozen=True)
class Cancellation:
    """The result of canceling one submission.

    Attributes:
        submission: as it is in the ledger now.
        result: `CANCELED`: its job was canceled at Scrape.do. `NEVER_SENT`: it was not sent, and will not be.
            `ENDED`: its job had ended before; its results can be collected. `LEFT`: it was not canceled, and may still
            run and cost credits.
        reason: why it was left.
    """

    submission: SubmissionWithTargets
    result: CancelResult
    reason: str | None = None


def open_submissions(ledger: Ledger, refs: Iterable[PartitionRef]) -> list[SubmissionWithTargets]:
    """Return the cancelable submissions of the newest generation of each partition."""
    newest = (each for ref in refs for each in ledger.submissions.with_targets(ref, ledger.generations.newest(ref)))
    return [each for each in newest if each.state in CANCELABLE]


def cancel_all(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submissions: Sequence[SubmissionWithTargets],
    *,
    reason: str,
    seconds: float,
    claim_policy: ClaimPolicy | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Cancellation]:
    """Cancel submissions, several at once, and return within `seconds` whatever the service does.

    Requests still in flight then continue in daemon threads. Never raises for the service or the ledger: what could
    not be canceled is `LEFT`, with the reason.
    """
    canceler = _Canceler(ledger, client, reason, claim_policy or ClaimPolicy(), clock.monotonic() + seconds, clock)
    results: dict[int, Cancellation] = {}

    def cancel(submission: SubmissionWithTargets) -> None:
        try:
            results[submission.id] = canceler.cancel(submission)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are canceled
            results[submission.id] = Cancellation(submission, CancelResult.LEFT, str(error))

    # What was never sent comes first: that needs no request, and then no other worker sends it.
    ordered = sorted(submissions, key=lambda each: each.state != State.PLANNED)
    _run_in_threads(cancel, ordered, canceler.deadline, clock)
    late = f"Scrape.do did not answer within {seconds:g} s"
    return [results.get(each.id) or Cancellation(each, CancelResult.LEFT, late) for each in submissions]


@dataclass(frozen=True)
class _Canceler:
    """Cancels one submission at a time, in any thread."""

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    reason: str
    claim_policy: ClaimPolicy
    deadline: float
    clock: Clock

    def cancel(self, submission: SubmissionWithTargets) -> Cancellation:
        store = self.ledger.submissions
        try:
            if submission.state in {State.SUBMITTING, State.UNCERTAIN}:
                reconciled = self._reconcile(submission)
                if reconciled is None:
                    return Cancellation(
                        store.get(submission.id),
                        CancelResult.LEFT,
                        "the answer to its submission was lost, and Scrape.do does not list it yet",
                    )
                submission = reconciled
            if submission.state == State.PLANNED:
                return Cancellation(store.mark_canceled(submission, self.reason), CancelResult.NEVER_SENT)
            if submission.state != State.SUBMITTED:
                return Cancellation(submission, CancelResult.ENDED)
            return self._cancel_job(submission)
        except LostClaimError:
            # Another worker changed it meanwhile.
            return self.cancel(store.get(submission.id))

    def _cancel_job(self, submission: SubmissionWithTargets) -> Cancellation:
        store = self.ledger.submissions
        try:
            self.client.cancel_job(submission.job_id or "")
        except NotAcceptableError:
            return Cancellation(store.mark_finished(submission), CancelResult.ENDED)
        except NotFoundError as error:
            return Cancellation(store.mark_expired(submission, str(error)), CancelResult.ENDED)
        return Cancellation(store.mark_canceled(submission, self.reason), CancelResult.CANCELED)

    def _reconcile(self, submission: SubmissionWithTargets) -> SubmissionWithTargets | None:
        while True:
            found = reconcile(self.ledger, self.client, submission, self.claim_policy)
            if found is not None or self.clock.monotonic() + _RECONCILE_EVERY >= self.deadline:
                return found
            self.clock.sleep(_RECONCILE_EVERY)


def _run_in_threads(
    work: Callable[[SubmissionWithTargets], None],
    submissions: Sequence[SubmissionWithTargets],
    deadline: float,
    clock: Clock,
) -> None:
    # No ThreadPoolExecutor: at its end the process would wait for requests that hang.
    waiting: SimpleQueue[SubmissionWithTargets] = SimpleQueue()
    for submission in submissions:
        waiting.put(submission)

    def run() -> None:
        while clock.monotonic() < deadline:
            try:
                work(waiting.get_nowait())
            except Empty:
                return

    threads = [
        threading.Thread(target=run, name="scrapedo-cancel", daemon=True)
        for _ in range(min(_THREADS, len(submissions)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - clock.monotonic()))
