"""What happens to remote jobs when a step is interrupted: canceled if a person wanted it, kept if a machine failed.

A signal alone does not tell the two apart. What Dagster has recorded does: the request to terminate a run is written
before the signal is sent.
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

_INTERRUPTS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)
CANCELING_SECONDS = 4.0
"""For canceling: Kubernetes kills 30 s after its signal, other platforms after 10."""

_PARENT_TAG = "dagster/parent_run_id"
_RETRY_TAG = "dagster/retry_number"


@contextmanager
def cancels_when_terminated(context: StepContext, scrape_do: ScrapeDoResource) -> Iterator[set[PartitionRef]]:
    """If the run is terminated inside the block, cancel the open jobs and fail without a retry.

    Put the whole of a step into the block. It yields a set: add each partition once its generation has been begun;
    before that there is nothing of this run to cancel.

    An interrupt that nobody wished for (an eviction, a machine that goes down) is raised as it is, and the jobs go on.

    Raises:
        dg.Failure: the run was terminated; or Dagster retries by itself one that was, and died of it.
    """
    if was_terminated(context.instance, context.run):
        raise dg.Failure(
            f"Run {context.run.tags.get(_PARENT_TAG)} was terminated, and this is its automatic retry: nothing is "
            "submitted or collected. The completion sensor cancels what it has left. Launch a new run to go on.",
            allow_retries=False,
        )
    begun: set[PartitionRef] = set()
    try:
        yield begun
    except _INTERRUPTS as interrupt:
        if not _is_wanted(context):
            raise
        try:
            outcomes = _cancel(scrape_do, begun)
            told = _told(outcomes)
        except (Exception, *_INTERRUPTS) as error:  # noqa: BLE001 - whatever it is, the interrupt must not be lost
            told = (
                f"its Scrape.do jobs could not be canceled and go on ({str(error) or 'interrupted again'}): {_BY_HAND}"
            )
        # Without this, a RetryPolicy would run the step again (dagster issue 15026).
        raise dg.Failure(f"The run was terminated; {told}", allow_retries=False) from interrupt


def was_terminated(instance: dg.DagsterInstance, run: dg.DagsterRun | None) -> bool:
    """Whether somebody has asked Dagster to terminate a run, or the one that it is an automatic retry of.

    Somebody is a person, or the limit of run time.
    """
    while run is not None:
        if _was_asked_to_end(instance, run):
            return True
        # A run that is killed before it could handle the request is failed, and retried by Dagster. A retry by a
        # person is another request.
        parent = run.tags.get(_PARENT_TAG) if _RETRY_TAG in run.tags else None
        run = instance.get_run_by_id(parent) if parent else None
    return False


def _was_asked_to_end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if run.status in {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}:
        return True
    # A run that exceeds its time is marked as failed right after it was asked to end. One that is failed without
    # having been asked has lost its machine, by what Dagster knows, and a retry may be at its jobs already.
    asked = dg.DagsterEventType.RUN_CANCELING
    return run.status == dg.DagsterRunStatus.FAILURE and bool(instance.all_logs(run.run_id, of_type=asked))


def _is_wanted(context: StepContext) -> bool:
    try:
        return was_terminated(context.instance, context.instance.get_run_by_id(context.run.run_id))
    except Exception as error:  # noqa: BLE001 - not knowing, keep what is paid for; and do not hide the interrupt
        context.log.warning(f"Interrupted, and the run's status cannot be read ({error}): the Scrape.do jobs go on.")
        return False


def _cancel(scrape_do: ScrapeDoResource, refs: set[PartitionRef]) -> list[Cancellation]:
    submissions = open_submissions(scrape_do.ledger, refs)
    if not submissions:
        return []
    with scrape_do.short_timeout_client() as client:
        return cancel_all(
            scrape_do.ledger, client, submissions, reason="the run was terminated", seconds=CANCELING_SECONDS
        )


_BY_HAND = "`scrapedo-dagster jobs list` shows them and `scrapedo-dagster jobs cancel` cancels them."


def _told(outcomes: list[Cancellation]) -> str:
    canceled = sum(each.result == CancelResult.CANCELED for each in outcomes)
    left = [each for each in outcomes if each.result == CancelResult.LEFT]
    told = (
        f"{canceled} Scrape.do jobs were canceled. What they had already done is billed, and is kept if the jobs are "
        "materialised again within three days."
    )
    if not left:
        return told
    submissions = (
        f"submission {each.submission.id} ({each.submission.ref}, job {each.submission.job_id or 'unknown'}): "
        f"{each.reason}"
        for each in left
    )
    listed = join_limited(submissions, separator="; ")
    return f"{told} {len(left)} could not be canceled and may go on: {listed}. {_BY_HAND}"
