"""What a step works with: makes the submitter and the collector of each partition."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.ledger.records import PartitionRef, RecordedOptions
from scrapedo_dagster.engine.submission.credits import CreditBalance
from scrapedo_dagster.engine.submission.planner import Generation
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.submission.settings import Limits, SubmissionSettings
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.target import Batch
from scrapedo_dagster.execution.event_log import reported_generations
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource


@dataclass(frozen=True)
class StepSession:
    """The dataset, resources and run of one step.

    Attributes:
        dataset: the dataset of the step.
        scrape_do: the account.
        storage: where results are stored.
        client: of the account.
        run: the run of the step.
        instance: of Dagster.
        log: logs a warning.
        balance: credits of the account, for all partitions of the step.
    """

    dataset: Dataset
    scrape_do: ScrapeDoResource
    storage: ScrapeDoParquetIOManager
    client: ScrapeDoAsyncAPIClient
    run: dg.DagsterRun
    instance: dg.DagsterInstance
    log: Callable[[str], None]
    balance: CreditBalance = field(default_factory=CreditBalance)
    recorded_options: RecordedOptions | None = None
    unknown_options: tuple[str, ...] = ()

    def ref(self, partition: str | None) -> PartitionRef:
        """Return how the ledger identifies a partition."""
        return PartitionRef(
            self.scrape_do.account, self.dataset.ledger_name, None if partition is None else str(partition)
        )

    def submitter(self, partition: str | None) -> Submitter:
        """Make the submitter of a partition."""
        settings = SubmissionSettings(
            ref=self.ref(partition),
            options=self.dataset.options,
            run_id=self.run.root_run_id or self.run.run_id,
            recorded_options=self.recorded_options,
            unknown_options=self.unknown_options,
            webhook=self.scrape_do.webhook,
            limits=Limits(max_credits=self.dataset.max_credits, max_open_jobs=self.dataset.max_open_jobs),
            claim_policy=ClaimPolicy.for_request_timeout(self.scrape_do.request_timeout),
        )
        return Submitter(
            self.scrape_do.ledger, self.client, settings, self.log, inbox=self.scrape_do.inbox, balance=self.balance
        )

    def begin(self, partition: str | None, entries: Batch) -> Generation:
        """Continue the open generation of a partition, or plan a new one."""
        tables = self.dataset.tables(self.storage, partition)
        return self.submitter(partition).begin(
            entries,
            reuse_open_jobs=self.dataset.reuse_open_jobs,
            above=tables.newest_generation(),
            unfinished=tables.unfinished_generation() or self._unreported_generation(partition),
        )

    def _unreported_generation(self, partition: str | None) -> int | None:
        """Return the newest generation if the run that submitted it died before it reported that to Dagster."""
        ledger, ref = self.scrape_do.ledger, self.ref(partition)
        newest = ledger.generations.newest(ref)
        if not newest:
            return None
        if reported_generations(self.instance, self.dataset.jobs_key, [partition]).get(partition, 0) >= newest:
            return None
        # It may have been reported to another instance, or to one whose storage was deleted since.
        run_id = ledger.generations.run_id(ref, newest)
        return newest if run_id and self.instance.has_run(run_id) else None

    def collector(self, partition: str | None) -> PartitionCollector:
        """Make the collector of a partition."""
        return PartitionCollector(
            self.submitter(partition),
            self.scrape_do.async_client,
            self.dataset.tables(self.storage, partition),
            retries=self.dataset.retry_failed_targets,
            inbox=self.scrape_do.inbox,
        )


@contextmanager
def step_session(
    dataset: Dataset,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
) -> Iterator[StepSession]:
    """Open the session of a step."""
    with scrape_do.client() as client:
        yield StepSession(dataset, scrape_do, storage, client, context.run, context.instance, context.log.warning)
