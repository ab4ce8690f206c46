"""Stops what a person no longer wants: cancels open submissions at Scrape.do and in the ledger.

Within a given time: whoever cancels is most often about to be killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from queue import Empty, SimpleQueue

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotAcceptableError, NotFoundError
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import CANCELABLE, State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile

_AT_ONCE = 16
_LOOK_EVERY = 0.5  # seconds between two looks for a submission that is on no list yet


class CancelResult(str, Enum):
    """What became of a submission that was to be canceled."""

    CANCELED = "canceled"
    NEVER_SENT = "never sent"
    ENDED = "ended"
    LEFT = "left"


@dataclass(frozen=True)
class Cancellation:
    """A submission that was to be canceled, and what became of it.

    Attributes:
        submission: as the ledger knows it now.
        result: `CANCELED` at Scrape.do; `NEVER_SENT`, it was no job and becomes none; `ENDED`, it had ended before, and
            can be collected where that is so; `LEFT` as it was, it may still go on and cost credits.
        reason: why it was left.
    """

    submission: SubmissionWithTargets
    result: CancelResult
    reason: str | None = None


def open_submissions(ledger: Ledger, refs: Iterable[PartitionRef]) -> list[SubmissionWithTargets]:
    """What can be canceled of the newest generations of these partitions."""
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
) -> list[Cancellation]:
    """Cancel submissions, several at once, and return within `seconds` whatever the service does.

    Requests that are on their way then go on, at most until the process ends. Never raises for the service or the
    ledger: what could not be canceled is `LEFT`, and says why.
    """
    deadline = time.monotonic() + seconds
    outcomes: dict[int, Cancellation] = {}

    def work(submission: SubmissionWithTargets) -> None:
        try:
            outcomes[submission.id] = _cancel(
                ledger, client, submission, reason, claim_policy or ClaimPolicy(), deadline
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are canceled all the same
            outcomes[submission.id] = Cancellation(submission, CancelResult.LEFT, str(error))

    # What was never sent first: no request can delay that, and no other worker sends it meanwhile.
    _in_threads(work, sorted(submissions, key=lambda each: each.state != State.PLANNED), deadline)
    late = f"there was no answer within {seconds:g} s"
    return [outcomes.get(each.id) or Cancellation(each, CancelResult.LEFT, late) for each in submissions]


def _cancel(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submission: SubmissionWithTargets,
    reason: str,
    claim_policy: ClaimPolicy,
    deadline: float,
) -> Cancellation:
    try:
        if submission.state in {State.SUBMITTING, State.UNCERTAIN}:
            found = _reconciled(ledger, client, submission, claim_policy, deadline)
            if found is None:
                return Cancellation(
                    ledger.submissions.get(submission.id),
                    CancelResult.LEFT,
                    "the answer to its submission is lost, and Scrape.do does not list it yet",
                )
            submission = found
        if submission.state == State.PLANNED:
            return Cancellation(ledger.submissions.mark_canceled(submission, reason), CancelResult.NEVER_SENT)
        if submission.state != State.SUBMITTED:
            return Cancellation(submission, CancelResult.ENDED)
        return _cancel_job(ledger, client, submission, reason)
    except LostClaimError:
        # Another worker has moved it meanwhile.
        return _cancel(ledger, client, ledger.submissions.get(submission.id), reason, claim_policy, deadline)


def _cancel_job(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets, reason: str
) -> Cancellation:
    try:
        client.cancel_job(submission.job_id or "")
    except NotAcceptableError:
        return Cancellation(ledger.submissions.mark_finished(submission), CancelResult.ENDED)
    except NotFoundError as error:
        return Cancellation(ledger.submissions.mark_expired(submission, str(error)), CancelResult.ENDED)
    return Cancellation(ledger.submissions.mark_canceled(submission, reason), CancelResult.CANCELED)


def _reconciled(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submission: SubmissionWithTargets,
    claim_policy: ClaimPolicy,
    deadline: float,
) -> SubmissionWithTargets | None:
    while True:
        found = reconcile(ledger, client, submission, claim_policy)
        if found is not None or time.monotonic() + _LOOK_EVERY >= deadline:
            return found
        time.sleep(_LOOK_EVERY)


def _in_threads(
    work: Callable[[SubmissionWithTargets], None], submissions: Sequence[SubmissionWithTargets], deadline: float
) -> None:
    # No ThreadPoolExecutor: the process would wait at its end for requests that hang.
    waiting: SimpleQueue[SubmissionWithTargets] = SimpleQueue()
    for submission in submissions:
        waiting.put(submission)

    def run() -> None:
        while time.monotonic() < deadline:
            try:
                work(waiting.get_nowait())
            except Empty:
                return

    threads = [
        threading.Thread(target=run, name="scrapedo-cancel", daemon=True)
        for _ in range(min(_AT_ONCE, len(submissions)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
