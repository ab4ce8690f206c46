"""Decides what of a canceled submission is submitted again: what had ended is paid for, and is kept."""

from __future__ import annotations

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import NotFoundError
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.api.task_matching import match_tasks
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.targets.target import Batch


def entries_to_resubmit(
    ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets, claim_policy: ClaimPolicy
) -> Batch | None:
    """Return the entries of a canceled submission that have no outcome. None while that is not certain.

    Raises:
        ScrapeDoError: the service refused or did not answer.
    """
    sent = tuple(entry for entry in submission.entries if entry.rejected is None)
    if submission.job_id is None:
        return sent
    try:
        job = client.get_job(submission.job_id)
    except NotFoundError:
        return sent  # the service has deleted its results
    canceled_at = submission.finished_at or submission.planned_at
    if not job.is_terminal and ledger.now() - canceled_at < claim_policy.absent_after:
        return None  # the status of a canceled job may lag, and its last tasks may be about to end
    done = _targets_with_outcome(submission, job)
    return tuple(entry for entry in sent if entry.url not in done)


def _targets_with_outcome(submission: SubmissionWithTargets, job: JobDetails) -> set[str]:
    """Return the targets whose task ended, or is missing from the job: both may be paid for."""
    matched = match_tasks(submission.targets, [task.url for task in job.tasks])
    return {
        target
        for target, index in zip(submission.targets, matched, strict=True)
        if index is None or (job.tasks[index].is_terminal and job.tasks[index].status != "canceled")
    }
