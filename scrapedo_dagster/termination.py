"""What happens to remote jobs when a step is interrupted: canceled if a person wanted it, kept if a machine failed.

A signal alone does not tell the two apart; the run's status does (dagster_core: CANCELING and CANCELED are set before
the signal is sent).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from scrapedo_dagster.engine.cancel import cancel_generation
from scrapedo_dagster.engine.submit import Submitter

_UNWANTED = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE}


@contextmanager
def cancels_when_terminated(context: dg.AssetExecutionContext, submitter: Submitter) -> Iterator[None]:
    """Cancel the remote jobs of the partition if the run is terminated inside the block, and fail without retries."""
    try:
        yield
    except (DagsterExecutionInterruptedError, KeyboardInterrupt) as interrupt:
        if not _is_unwanted(context):
            raise  # evicted, or its machine is going down: the jobs go on, and the next run finds them
        canceled = _try(lambda: cancel_generation(submitter), context)
        # Without this, a RetryPolicy would run the step again (dagster issue 15026).
        raise dg.Failure(
            f"The run was terminated; {canceled} Scrape.do jobs of {submitter.scope} were canceled. What they had "
            "already done is billed.",
            allow_retries=False,
        ) from interrupt


def _is_unwanted(context: dg.AssetExecutionContext) -> bool:
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is not None and run.status in _UNWANTED


def _try(cancel: Callable[[], int], context: dg.AssetExecutionContext) -> int:
    try:
        return cancel()
    except Exception as error:  # noqa: BLE001 - whatever it is, the interrupt must not be lost over it
        context.log.error(f"Could not cancel all jobs: {error}. `scrapedo-dagster jobs cancel` does it by hand.")
        return 0
