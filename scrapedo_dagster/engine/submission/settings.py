"""How one partition is submitted: what is sent, for which run, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.api.retry import RetryPolicy
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.ledger.records import PartitionRef, RecordedOptions, Submission
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.webhook_address import Webhook


@dataclass(frozen=True)
class Limits:
    """Limits of a submission; None is no limit.

    Attributes:
        max_credits: credits that the targets of one generation may cost by the price list.
        max_open_jobs: open jobs of the account at one time. Further batches wait in the ledger.
    """

    max_credits: int | None = None
    max_open_jobs: int | None = None


@dataclass(frozen=True)
class SubmissionSettings:
    """How one partition is submitted.

    Attributes:
        ref: the partition.
        options: options of every job.
        run_id: the first of a run and its retries. A retry continues what this run began, even if it is collected.
        recorded_options: what the ledger keeps of the options, for a later run that does not have the config, or None.
        unknown_options: names of options that this run does not know. If there are any, it sends nothing.
        webhook: where Scrape.do delivers each task when it ends, or None.
        limits: credits and open jobs.
        claim_policy: how long to wait for other workers and for lost answers.
        retry: how often a batch is sent that provably did not arrive, and the pauses between. Pauses must be shorter
            than the lease of a claim.
        batch_size: targets of one job.

    Raises:
        WebhookError: the options and the resource both set a webhook; a job has one.
    """

    ref: PartitionRef
    options: ScrapeOptions
    run_id: str | None
    recorded_options: RecordedOptions | None = None
    unknown_options: tuple[str, ...] = ()
    webhook: Webhook | None = None
    limits: Limits = field(default_factory=Limits)
    claim_policy: ClaimPolicy = field(default_factory=ClaimPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    batch_size: int = 1000

    def __post_init__(self) -> None:
        """Raise if there are two webhooks."""
        if self.webhook is not None and (self.options.webhook_url or self.options.webhook_headers):
            raise WebhookError(
                f"{self.ref}: the options set webhook_url or webhook_headers, and the resource sets webhook_url, but a "
                "job has one webhook. Nothing was submitted. Remove one of the two."
            )

    @property
    def fingerprint(self) -> str:
        """Hash of the options: equal for jobs that are scraped alike."""
        return sha256(self.options.model_dump_json(exclude_none=True).encode()).hexdigest()

    def options_for(self, submission: Submission) -> ScrapeOptions:
        """Return the options of one job, with the webhook's URL and secret if there is a webhook."""
        return self.options if self.webhook is None else self.webhook.add_to(self.options, submission)
