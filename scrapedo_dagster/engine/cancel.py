"""Stops what a person no longer wants: cancels a generation at Scrape.do and in the ledger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotAcceptableError, NotFoundError
from scrapedo_dagster.engine.ledger import Ledger, LostClaimError, Submission
from scrapedo_dagster.engine.settle import Patience, settle
from scrapedo_dagster.engine.states import UNSENT, State
from scrapedo_dagster.engine.submit import Submitter

_AT_ONCE = 8


def cancel_generation(submitter: Submitter) -> int:
    """Cancel the open jobs of the partition's newest generation. Returns how many were canceled at Scrape.do.

    Raises:
        ScrapeDoError: some could not be canceled; they stay open in the ledger.
    """
    ledger = submitter.ledger
    submissions = ledger.submissions(submitter.scope, ledger.generation(submitter.scope))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda each: cancel(ledger, submitter.client, each, submitter.patience), submissions))
    return sum(outcomes)


def cancel(ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: Submission, patience: Patience) -> bool:
    """Cancel one submission. True if a job was canceled at Scrape.do.

    A job that has ended already is finished, and stays to be collected. An uncertain submission is looked for first;
    one that is on no list yet stays uncertain.

    Raises:
        ScrapeDoError: the service could not be asked.
    """
    try:
        if submission.state in {State.SUBMITTING, State.UNCERTAIN}:
            found = settle(ledger, client, submission, patience)
            if found is None:
                return False
            submission = found
        if submission.state in UNSENT:
            ledger.canceled(submission, "terminated before it was submitted")
            return False
        if submission.state != State.SUBMITTED:
            return False
        return _cancel_job(ledger, client, submission)
    except LostClaimError:
        return False  # another worker is at it


def _cancel_job(ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: Submission) -> bool:
    try:
        client.cancel_job(submission.job_id or "")
    except NotAcceptableError:
        ledger.finished(submission)
        return False
    except NotFoundError as error:
        ledger.expired(submission, str(error))
        return False
    ledger.canceled(submission, "terminated by a person")
    return True
