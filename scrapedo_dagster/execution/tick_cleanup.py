"""Cleans up after runs that died: cancels jobs that are not wanted, and reconciles submissions without an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient, ScrapeDoError
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.records import PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import CANCELABLE, State
from scrapedo_dagster.engine.submission.cancel import CancelResult, cancel_all
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile
from scrapedo_dagster.execution.run_activity import RunActivity
from scrapedo_dagster.execution.tick_session import TickSession, Unconfirmed

ByGeneration: TypeAlias = dict[tuple[PartitionRef, int], list[Submission]]


def cancel_unwanted_jobs(
    session: TickSession, client: ScrapeDoAsyncAPIClient, unconfirmed: Unconfirmed, runs: RunActivity
) -> None:
    """Cancel the open jobs of terminated runs and of generations that a newer one replaces.

    A run cancels them itself, unless Terminate reaches it between two steps, or without a signal, or it dies first.
    """
    ledger, account = session.ledger, session.scrape_do.account
    cancelable = [each for batches in unconfirmed.values() for each in batches if each.state in CANCELABLE]
    unowned = _of_ended_runs([*cancelable, *ledger.submissions.open_of_canceled(account, session.datasets)], runs)
    superseded = _of_ended_runs(ledger.submissions.open_of_superseded(account, session.datasets), runs)
    terminated = runs.terminated({run_id for batches in unowned.values() if (run_id := batches[0].run_id)})
    unwanted = [
        *((key, each, "its run was terminated") for key, each in unowned.items() if each[0].run_id in terminated),
        *((key, each, "a newer generation was begun") for key, each in superseded.items()),
    ]
    for (ref, _), batches, reason in unwanted:
        if session.is_cleanup_over:
            return
        _cancel(session, client, ref, batches, reason)


def _cancel(
    session: TickSession, client: ScrapeDoAsyncAPIClient, ref: PartitionRef, batches: Sequence[Submission], reason: str
) -> None:
    submissions = [session.ledger.submissions.get(each.id) for each in batches]
    results = cancel_all(session.ledger, client, submissions, reason=reason, seconds=session.limits.cancel_seconds)
    left = sum(each.result == CancelResult.LEFT for each in results)
    session.log.warning(
        f"{ref}: {reason}; {len(results) - left} of its open jobs were ended, and {left} are left for the next tick."
    )


def _of_ended_runs(submissions: Iterable[Submission], runs: RunActivity) -> ByGeneration:
    """Group submissions by generation. Leaves out those of active runs."""
    found: ByGeneration = {}
    for each in submissions:
        if not runs.is_active(each.run_id):
            found.setdefault((each.ref, each.generation), []).append(each)
    return found


def reconcile_lost_submissions(
    session: TickSession, client: ScrapeDoAsyncAPIClient, unconfirmed: Unconfirmed, runs: RunActivity
) -> None:
    """Find out what became of the submissions whose run died while it sent them."""
    claim_policy = ClaimPolicy.for_request_timeout(session.scrape_do.request_timeout)
    ledger = session.ledger
    now = ledger.now()
    for each in (each for batches in unconfirmed.values() for each in batches):
        if each.state not in {State.SUBMITTING, State.UNCERTAIN} or session.is_cleanup_over:
            continue
        if runs.is_active(each.run_id) and not claim_policy.is_abandoned(each, now):
            continue
        with suppress(LostClaimError):
            submission = ledger.submissions.get(each.id)
            try:
                reconciled = reconcile(
                    ledger, client, submission, claim_policy, deadline=session.cleanup_deadline, clock=session.clock
                )
            except ScrapeDoError as error:
                session.log.warning(f"{each.ref}: Scrape.do could not be asked for its jobs ({error}).")
                return
            if reconciled is not None:
                result = f"it is job {reconciled.job_id}" if reconciled.job_id else "it never arrived"
                session.log.info(f"{each.ref}, batch {each.batch}: its submission had no answer; {result}.")
