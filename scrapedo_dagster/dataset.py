"""What a dataset is configured with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import dagster as dg

from scrapedo_dagster.api import ScrapeOptions

if TYPE_CHECKING:
    from scrapedo_dagster.engine.collect import Tables
    from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager


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
    min_success_ratio: float = 0.9

    @property
    def ledger_name(self) -> str:
        """What the ledger calls it: the name with what comes before it in the asset keys, such as `us/products`.

        Two code locations may share a ledger, and tell their datasets of one name apart by a prefix alone. Where a
        translator has taken the name out of the key of `tasks`, it is the name.
        """
        *path, _table = self.tasks_key.path
        while path and path[-1] != self.name:
            path.pop()
        return dg.AssetKey(path).to_user_string() if path else self.name

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
        from scrapedo_dagster.engine.collect import Tables
        from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, TASKS_SCHEMA

        store = storage.store
        return Tables(
            store.table(self.tasks_key.path, TASKS_SCHEMA),
            store.table(self.contents_key.path, CONTENTS_SCHEMA),
            partition,
        )
