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
from scrapedo_dagster.engine.ledger.records import Scope, Submission
from scrapedo_dagster.engine.ledger.states import CANCELABLE, State
from scrapedo_dagster.engine.submission.reconcile import Patience, settle

_AT_ONCE = 16
_LOOK_EVERY = 0.5  # seconds between two looks for a submission that is on no list yet


class Fate(str, Enum):
    """What became of a submission that was to be canceled."""

    CANCELED = "canceled"
    NEVER_SENT = "never sent"
    ENDED = "ended"
    LEFT = "left"


@dataclass(frozen=True)
class Outcome:
    """A submission that was to be canceled, and what became of it.

    Attributes:
        submission: as the ledger knows it now.
        fate: `CANCELED` at Scrape.do; `NEVER_SENT`, it was no job and becomes none; `ENDED`, it had ended before, and
            can be collected where that is so; `LEFT` as it was, it may still go on and cost credits.
        reason: why it was left.
    """

    submission: Submission
    fate: Fate
    reason: str | None = None


def open_submissions(ledger: Ledger, scopes: Iterable[Scope]) -> list[Submission]:
    """What can be canceled of the newest generations of these partitions."""
    newest = (each for scope in scopes for each in ledger.submissions(scope, ledger.generation(scope)))
    return [each for each in newest if each.state in CANCELABLE]


def cancel_all(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submissions: Sequence[Submission],
    *,
    reason: str,
    seconds: float,
    patience: Patience | None = None,
) -> list[Outcome]:
    """Cancel submissions, several at once, and return within `seconds` whatever the service does.

    Requests that are on their way then go on, at most until the process ends. Never raises for the service or the
    ledger: what could not be canceled is `LEFT`, and says why.
    """
    deadline = time.monotonic() + seconds
    outcomes: dict[int, Outcome] = {}

    def work(submission: Submission) -> None:
        try:
            outcomes[submission.id] = _cancel(ledger, client, submission, reason, patience or Patience(), deadline)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are canceled all the same
            outcomes[submission.id] = Outcome(submission, Fate.LEFT, str(error))

    # What was never sent first: no request can delay that, and no other worker sends it meanwhile.
    _in_threads(work, sorted(submissions, key=lambda each: each.state != State.PLANNED), deadline)
    late = f"there was no answer within {seconds:g} s"
    return [outcomes.get(each.id) or Outcome(each, Fate.LEFT, late) for each in submissions]


def _cancel(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    submission: Submission,
    reason: str,
    patience: Patience,
    deadline: float,
) -> Outcome:
    try:
        if submission.state in {State.SUBMITTING, State.UNCERTAIN}:
            found = _settled(ledger, client, submission, patience, deadline)
            if found is None:
                return Outcome(
                    ledger.get(submission.id),
                    Fate.LEFT,
                    "the answer to its submission is lost, and Scrape.do does not list it yet",
                )
            submission = found
        if submission.state == State.PLANNED:
            return Outcome(ledger.canceled(submission, reason), Fate.NEVER_SENT)
        if submission.state != State.SUBMITTED:
            return Outcome(submission, Fate.ENDED)
        return _cancel_job(ledger, client, submission, reason)
    except LostClaimError:
        # Another worker has moved it meanwhile.
        return _cancel(ledger, client, ledger.get(submission.id), reason, patience, deadline)


def _cancel_job(ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: Submission, reason: str) -> Outcome:
    try:
        client.cancel_job(submission.job_id or "")
    except NotAcceptableError:
        return Outcome(ledger.finished(submission), Fate.ENDED)
    except NotFoundError as error:
        return Outcome(ledger.expired(submission, str(error)), Fate.ENDED)
    return Outcome(ledger.canceled(submission, reason), Fate.CANCELED)


def _settled(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: Submission, patience: Patience, deadline: float
) -> Submission | None:
    while True:
        found = settle(ledger, client, submission, patience)
        if found is not None or time.monotonic() + _LOOK_EVERY >= deadline:
            return found
        time.sleep(_LOOK_EVERY)


def _in_threads(work: Callable[[Submission], None], submissions: Sequence[Submission], deadline: float) -> None:
    # No ThreadPoolExecutor: the process would wait at its end for requests that hang.
    waiting: SimpleQueue[Submission] = SimpleQueue()
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
