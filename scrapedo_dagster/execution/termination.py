"""Cancels the remote jobs of a step that a person terminated, and keeps those of one that a machine interrupted.

Both are the same signal. Dagster's records distinguish them: a request to terminate a run is stored before the signal
is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import dagster as dg

from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.submission.cancel import Cancellation, CancelResult, cancel_all, open_submissions
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.text import join_limited

StepContext: TypeAlias = dg.AssetExecutionContext | dg.OpExecutionContext

CANCEL_SECONDS = 4.0
"""For canceling all jobs of a step: Kubernetes kills 30 s after its signal, other platforms after 10."""

_INTERRUPTS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)
_PARENT_TAG = "dagster/parent_run_id"
_RETRY_TAG = "dagster/retry_number"
_CANCEL_BY_HAND = "`scrapedo-dagster jobs list` shows them and `scrapedo-dagster jobs cancel` cancels them."


@contextmanager
def cancel_when_terminated(context: StepContext, scrape_do: ScrapeDoResource) -> Iterator[set[PartitionRef]]:
    """Cancel the open jobs of the step if its run is terminated inside the block, and fail without a retry.

    Put the whole step into the block. It yields a set: add each partition once its generation has begun. Jobs of other
    partitions are not canceled.

    An interrupt that nobody requested (an eviction, a machine that goes down) is raised again, and the jobs continue.

    Raises:
        dg.Failure: the run was terminated; or it is Dagster's automatic retry of a run that was.
    """
    if was_terminated(context.instance, context.run):
        raise dg.Failure(
            f"Run {context.run.tags.get(_PARENT_TAG)} was terminated, and this is its automatic retry: nothing is "
            "submitted or collected. The completion sensor cancels its open jobs. Launch a new run to continue.",
            allow_retries=False,
        )
    cancelable: set[PartitionRef] = set()
    try:
        yield cancelable
    except _INTERRUPTS as interrupt:
        if not _is_terminated_now(context):
            raise
        try:
            message = _summary_of(_cancel(scrape_do, cancelable))
        except (Exception, *_INTERRUPTS) as error:  # noqa: BLE001 - whatever it is, it must not hide the interrupt
            reason = str(error) or "interrupted again"
            message = f"its Scrape.do jobs could not be canceled and continue ({reason}): {_CANCEL_BY_HAND}"
        # Without `allow_retries`, a RetryPolicy would run the step again (dagster issue 15026).
        raise dg.Failure(f"The run was terminated; {message}", allow_retries=False) from interrupt


def was_terminated(instance: dg.DagsterInstance, run: dg.DagsterRun | None) -> bool:
    """Return whether a run, or a run that it automatically retries, was asked to terminate.

    By a person, or by Dagster because it exceeded its run time.
    """
    while run is not None:
        if _was_asked_to_terminate(instance, run):
            return True
        # A run that is killed before it handles the request is failed, and Dagster retries it. A retry that a person
        # launches is a new request.
        parent = run.tags.get(_PARENT_TAG) if _RETRY_TAG in run.tags else None
        run = instance.get_run_by_id(parent) if parent else None
    return False


def _was_asked_to_terminate(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if run.status in {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}:
        return True
    # A run that exceeds its time is marked as failed right after the request. One that is marked as failed without a
    # request has lost its machine, as far as Dagster knows, and a retry may already use its jobs.
    request = dg.DagsterEventType.RUN_CANCELING
    return run.status == dg.DagsterRunStatus.FAILURE and bool(instance.all_logs(run.run_id, of_type=request))


def _is_terminated_now(context: StepContext) -> bool:
    try:
        return was_terminated(context.instance, context.instance.get_run_by_id(context.run.run_id))
    except Exception as error:  # noqa: BLE001 - if in doubt, keep what is paid for; and do not hide the interrupt
        context.log.warning(f"Interrupted, and the run's status cannot be read ({error}): the Scrape.do jobs continue.")
        return False


def _cancel(scrape_do: ScrapeDoResource, refs: set[PartitionRef]) -> list[Cancellation]:
    submissions = open_submissions(scrape_do.ledger, refs)
    if not submissions:
        return []
    with scrape_do.short_timeout_client() as client:
        return cancel_all(
            scrape_do.ledger, client, submissions, reason="the run was terminated", seconds=CANCEL_SECONDS
        )


def _summary_of(cancellations: list[Cancellation]) -> str:
    canceled = sum(each.result == CancelResult.CANCELED for each in cancellations)
    left = [each for each in cancellations if each.result == CancelResult.LEFT]
    summary = (
        f"{canceled} Scrape.do jobs were canceled. Their finished tasks are billed, and their results are kept if the "
        "jobs are materialized again within three days."
    )
    if not left:
        return summary
    submissions = (
        f"submission {each.submission.id} ({each.submission.ref}, job {each.submission.job_id or 'unknown'}): "
        f"{each.reason}"
        for each in left
    )
    listed = join_limited(submissions, separator="; ")
    return f"{summary} {len(left)} could not be canceled and may continue: {listed}. {_CANCEL_BY_HAND}"
