"""`scrapedo-dagster jobs cancel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from scrapedo_dagster.cli.ledger_access import (
    account_client,
    base_url_option,
    get_submission,
    json_option,
    ledger_option,
    of_account,
    of_partition,
    open_ledger,
    require_account,
)
from scrapedo_dagster.cli.output import print_result
from scrapedo_dagster.engine.ledger.states import CANCELABLE, OPEN, State

if TYPE_CHECKING:
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
    from scrapedo_dagster.engine.submission.cancel import Cancellation

_CANCEL_SECONDS = 60.0


@click.command("cancel", epilog="Example: scrapedo-dagster jobs cancel --dataset products --partition 2026-01-01")
@ledger_option
@base_url_option
@click.argument("submission_ids", metavar="[ID]...", type=int, nargs=-1)
@click.option("--dataset", help="Cancel all open submissions of this dataset, in place of ids.")
@click.option("--partition", help="With --dataset: only this partition.")
@json_option
def cancel_jobs(
    ledger_url: str | None,
    base_url: str,
    submission_ids: tuple[int, ...],
    dataset: str | None,
    partition: str | None,
    as_json: bool,
) -> None:
    """Cancel submissions at Scrape.do and in the ledger.

    Finished tasks are billed. A partition with a canceled submission is not collected until its jobs are materialized
    again: this keeps the results of finished tasks and submits the other targets.
    """
    if bool(submission_ids) == bool(dataset) or (partition is not None and not dataset):
        raise click.UsageError("pass either ids, or --dataset (and optionally --partition)")
    from scrapedo_dagster.engine.submission.cancel import Cancellation, CancelResult, cancel_all

    with open_ledger(ledger_url) as ledger, account_client(base_url) as (client, account):
        if dataset:
            cancelable = ledger.submissions.find(states=CANCELABLE)
            selected = of_account(of_partition(cancelable, dataset, partition), account)
        else:
            selected = [get_submission(ledger, each) for each in dict.fromkeys(submission_ids)]
            require_account(selected, account)
        cancellations = {
            each.submission.id: each
            for each in cancel_all(
                ledger,
                client,
                [each for each in selected if each.state in CANCELABLE],
                reason="canceled by scrapedo-dagster jobs cancel",
                seconds=_CANCEL_SECONDS,
            )
        }
        if not selected and not as_json:
            click.echo("Nothing to cancel.")
        for each in selected:
            cancellation = cancellations.get(each.id) or Cancellation(each, CancelResult.ENDED)
            print_result(cancellation.submission, cancellation.result.value, _message(cancellation), as_json)
        _warn_of_partly_canceled(ledger, selected)
    if any(each.result == CancelResult.LEFT for each in cancellations.values()):
        raise SystemExit(1)


def _message(cancellation: Cancellation) -> str:
    state = cancellation.submission.state
    return {
        "canceled": f"job {cancellation.submission.job_id} is canceled; its finished tasks are billed",
        "never sent": "it is canceled before it was sent",
        "ended": "its job has ended; its results can be collected"
        if state in {State.FINISHED, State.EXPIRED}
        else f"there is nothing to cancel: it is {state.value}",
        "left": f"it could not be canceled and may continue: {cancellation.reason}",
    }[cancellation.result.value]


def _warn_of_partly_canceled(ledger: Ledger, selected: Sequence[SubmissionWithTargets]) -> None:
    ids = {each.id for each in selected}
    generations = {(each.ref, each.generation) for each in selected}
    for ref, generation in sorted(generations, key=str):
        submissions = ledger.submissions.with_targets(ref, generation)
        others = [each for each in submissions if each.state in OPEN and each.id not in ids]
        if others and any(each.state == State.CANCELED for each in submissions):
            click.echo(
                f"Warning: {ref}, generation {generation}: some submissions are canceled, so the other open ones are "
                "not collected until its jobs are materialized again. Cancel these too: "
                f"scrapedo-dagster jobs cancel {' '.join(str(each.id) for each in others)}",
                err=True,
            )
