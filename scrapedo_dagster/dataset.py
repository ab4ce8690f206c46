"""What a dataset is configured with, and how one partition of it is worked on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import dagster as dg

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient, ScrapeOptions
from scrapedo_dagster.engine.bring_home import Homecoming
from scrapedo_dagster.engine.collect import Tables
from scrapedo_dagster.engine.ledger import Scope
from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.settle import Patience
from scrapedo_dagster.engine.submit import Generation, Limits, Submitter
from scrapedo_dagster.engine.targets import Batch
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource


@dataclass(frozen=True)
class Dataset:
    """How a dataset is scraped, and which assets it has; see `build_scrape_do_assets`."""

    name: str
    jobs_key: dg.AssetKey
    tasks_key: dg.AssetKey
    contents_key: dg.AssetKey
    partitions_def: dg.PartitionsDefinition | None = None
    options: ScrapeOptions = field(default_factory=ScrapeOptions)
    job_deadline: timedelta = timedelta(hours=24)
    on_invalid_target: Literal["raise", "skip"] = "raise"
    max_credits: int | None = None
    max_open_jobs: int | None = None
    reuse_open_jobs: bool = True
    retry_failed_targets: int = 0

    @property
    def submit_job_name(self) -> str:
        """Of the Dagster job that submits."""
        return f"{self.name}_submit"

    @property
    def collect_job_name(self) -> str:
        """Of the Dagster job that collects."""
        return f"{self.name}_collect"

    def tables(self, storage: ScrapeDoParquetIOManager, partition: str | None) -> Tables:
        """Where the results of a partition go."""
        store = storage.store
        return Tables(
            store.table(self.tasks_key.path, TASKS_SCHEMA),
            store.table(self.contents_key.path, CONTENTS_SCHEMA),
            partition,
        )


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

    def scope(self, partition: str | None) -> Scope:
        """What the ledger calls a partition."""
        return Scope(self.scrape_do.account, self.dataset.name, None if partition is None else str(partition))

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
        )

    def begin(self, partition: str | None, entries: Batch) -> Generation:
        """Continue the open generation of a partition, or plan a new one."""
        tables = self.dataset.tables(self.storage, partition)
        return self.submitter(partition).begin(
            entries,
            reuse_open_jobs=self.dataset.reuse_open_jobs,
            above=tables.newest_generation(),
            unfinished=tables.unfinished_generation(),
        )

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
