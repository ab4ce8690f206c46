"""`scrapedo-dagster jobs reconcile`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from scrapedo_dagster.cli.ledger_access import (
    account_client,
    base_url_option,
    json_option,
    ledger_option,
    of_account,
    open_ledger,
)
from scrapedo_dagster.cli.output import print_result
from scrapedo_dagster.engine.ledger.states import State

if TYPE_CHECKING:
    from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets


@click.command("reconcile")
@ledger_option
@base_url_option
@json_option
def reconcile_jobs(ledger_url: str | None, base_url: str, as_json: bool) -> None:
    """Find the jobs of submissions whose answer was lost.

    Applies to submissions that are `uncertain`, or `submitting` by a worker that died. If Scrape.do lists the job of a
    submission, the job is adopted. If it certainly did not arrive, the next run of the partition sends the submission.

    Runs do this by themselves: use this command for partitions that no run will materialize.
    """
    from scrapedo_dagster.api import ScrapeDoError

    with open_ledger(ledger_url) as ledger, account_client(base_url) as (client, account):
        unconfirmed = ledger.submissions.find(states=[State.SUBMITTING, State.UNCERTAIN])
        selected = of_account(unconfirmed, account)
        if not selected and not as_json:
            click.echo("Nothing to reconcile.")
        any_left = False
        for each in selected:
            try:
                result, message = _reconcile(ledger, client, each)
            except ScrapeDoError as error:
                result, message = "left", f"the jobs could not be listed: {error}"
            any_left = any_left or result == "left"
            print_result(ledger.submissions.get(each.id), result, message, as_json)
    if any_left:
        raise SystemExit(1)


def _reconcile(ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets) -> tuple[str, str]:
    """Reconcile one submission. Returns the result in one word, and as a message."""
    from scrapedo_dagster.engine.errors import LostClaimError
    from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile

    policy = ClaimPolicy()
    age = ledger.now() - (submission.claimed_at or submission.planned_at)
    if submission.state == State.SUBMITTING and age <= policy.lease:
        worker = f"run {submission.run_id}" if submission.run_id else "a worker"
        return "left", (
            f"{worker} started to send it {_seconds(age)} s ago; if that has died, reconcile again in "
            f"{_seconds(policy.lease - age)} s"
        )
    try:
        reconciled = reconcile(ledger, client, submission, policy)
    except LostClaimError:
        return "moved", f"another worker reconciled it: it is {ledger.submissions.get(submission.id).state.value}"
    if reconciled is None:
        wait = policy.absent_after - age
        when = f"in {_seconds(wait)} s" if wait > timedelta(0) else "later"
        return (
            "left",
            f"it is not known yet: Scrape.do lists no job for it, but it may still arrive; reconcile again {when}",
        )
    if reconciled.state == State.SUBMITTED:
        generation = ledger.submissions.with_targets(reconciled.ref, reconciled.generation)
        is_canceled = any(each.state == State.CANCELED for each in generation)
        advice = f"; its generation is canceled: scrapedo-dagster jobs cancel {reconciled.id}" if is_canceled else ""
        return "adopted", f"it is job {reconciled.job_id}{advice}"
    return "planned", "it did not arrive at Scrape.do: the next run of its partition sends it"


def _seconds(value: timedelta) -> int:
    return max(1, round(value.total_seconds()))
