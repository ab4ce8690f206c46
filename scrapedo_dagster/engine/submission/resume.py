"""Goes on with what was canceled: what had ended is kept, since it is paid for, and the rest is submitted again."""

from __future__ import annotations

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotFoundError
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.api.task_matching import match_tasks
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.targets.target import Batch


def left_to_do(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets, claim_policy: ClaimPolicy
) -> Batch | None:
    """What of a canceled submission has to be submitted again; None where it cannot be told yet.

    Raises:
        ScrapeDoError: the service could not be asked.
    """
    sent = tuple(entry for entry in submission.entries if entry.rejected is None)
    if submission.job_id is None:
        return sent
    try:
        job = client.get_job(submission.job_id)
    except NotFoundError:
        return sent  # with all that it had done
    canceled_at = submission.finished_at or submission.planned_at
    if not job.is_terminal and ledger.now() - canceled_at < claim_policy.absent_after:
        return None  # the status of a canceled job may lag, and its last tasks may be about to end
    done = _done(submission, job)
    return tuple(entry for entry in sent if entry.url not in done)


def _done(submission: SubmissionWithTargets, job: JobDetails) -> set[str]:
    """The targets whose task has an outcome, good or bad; also where the job does not tell it: that may be paid."""
    matched = match_tasks(submission.targets, [task.url for task in job.tasks])
    return {
        target
        for target, index in zip(submission.targets, matched, strict=True)
        if index is None or (job.tasks[index].is_terminal and job.tasks[index].status != "canceled")
    }
