"""How one partition of a dataset is worked on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.collection.coordinator import Homecoming
from scrapedo_dagster.engine.ledger.records import Scope
from scrapedo_dagster.engine.submission.credits import Purse
from scrapedo_dagster.engine.submission.reconcile import Patience
from scrapedo_dagster.engine.submission.submitter import Generation, Limits, Submitter
from scrapedo_dagster.engine.targets.target import Batch
from scrapedo_dagster.execution.partition_events import told_generations
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource


@dataclass(frozen=True)
class Workplace:
    """Where the partitions of a dataset are worked on, in one step of one run."""

    dataset: Dataset
    scrape_do: ScrapeDoResource
    storage: ScrapeDoParquetIOManager
    client: ScrapeDoAsyncAPIClient
    run: dg.DagsterRun
    instance: dg.DagsterInstance
    log: Callable[[str], None]
    purse: Purse = field(default_factory=Purse)

    def scope(self, partition: str | None) -> Scope:
        """What the ledger calls a partition."""
        return Scope(self.scrape_do.account, self.dataset.ledger_name, None if partition is None else str(partition))

    def submitter(self, partition: str | None) -> Submitter:
        """What submits a partition."""
        return Submitter(
            ledger=self.scrape_do.ledger,
            client=self.client,
            scope=self.scope(partition),
            options=self.dataset.options,
            run_id=self.run.root_run_id or self.run.run_id,
            log=self.log,
            limits=Limits(max_credits=self.dataset.max_credits, max_open_jobs=self.dataset.max_open_jobs),
            patience=Patience.with_requests_of(self.scrape_do.request_timeout),
            webhook=self.scrape_do.webhook,
            inbox=self.scrape_do.inbox,
            purse=self.purse,
        )

    def begin(self, partition: str | None, entries: Batch) -> Generation:
        """Continue the open generation of a partition, or plan a new one."""
        tables = self.dataset.tables(self.storage, partition)
        return self.submitter(partition).begin(
            entries,
            reuse_open_jobs=self.dataset.reuse_open_jobs,
            above=tables.newest_generation(),
            unfinished=tables.unfinished_generation() or self._untold_generation(partition),
        )

    def _untold_generation(self, partition: str | None) -> int | None:
        """The newest generation, if the run that submitted it died before it could tell Dagster so."""
        ledger, scope = self.scrape_do.ledger, self.scope(partition)
        newest = ledger.generation(scope)
        if (
            not newest
            or told_generations(self.instance, self.dataset.jobs_key, [partition]).get(partition, 0) >= newest
        ):
            return None
        # Another Dagster than this one, or one that forgets, may have been told.
        run_id = ledger.run_of(scope, newest)
        return newest if run_id and self.instance.has_run(run_id) else None

    def homecoming(self, partition: str | None) -> Homecoming:
        """What brings a partition home."""
        return Homecoming(
            self.submitter(partition),
            self.scrape_do.async_client,
            self.dataset.tables(self.storage, partition),
            retries=self.dataset.retry_failed_targets,
            inbox=self.scrape_do.inbox,
        )


@contextmanager
def workplace(
    dataset: Dataset,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
) -> Iterator[Workplace]:
    """The workplace of a step."""
    with scrape_do.client() as client:
        yield Workplace(dataset, scrape_do, storage, client, context.run, context.instance, context.log.warning)
