"""What a dataset is configured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from scrapedo_dagster.dataset_options import DatasetOptions

if TYPE_CHECKING:
    from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
    from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager


class Dataset(DatasetOptions):
    """A dataset: its options, and the keys of its assets."""

    name: str
    jobs_key: dg.AssetKey
    tasks_key: dg.AssetKey
    contents_key: dg.AssetKey
    partitions_def: dg.PartitionsDefinition | None = None

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

    def tables(self, storage: ScrapeDoParquetIOManager, partition: str | None) -> PartitionTables:
        """Where the results of a partition go."""
        from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
        from scrapedo_dagster.engine.storage.schema import CONTENTS_SCHEMA, TASKS_SCHEMA

        store = storage.store
        return PartitionTables(
            store.table(self.tasks_key.path, TASKS_SCHEMA),
            store.table(self.contents_key.path, CONTENTS_SCHEMA),
            partition,
        )


@dataclass(frozen=True)
class ScrapeDoDataset:
    """A dataset: everything that Dagster needs of it, ready to be merged into your definitions.

    Attributes:
        dataset: how it is scraped.
        assets: `[name, "jobs"]`, and one multi-asset with `[name, "tasks"]` and `[name, "contents"]`.
        asset_checks: of `tasks`.
        jobs: the one that submits, such as `{name}_submit`, and `{name}_collect`.
        schedules: of the job that submits, if one was asked for.
        sensors: the completion sensor of this dataset alone; `build_scrape_do_sensor` makes one for several.
    """

    dataset: Dataset
    assets: tuple[dg.AssetsDefinition | dg.AssetSpec, ...]
    asset_checks: tuple[dg.AssetChecksDefinition, ...]
    jobs: tuple[Any, ...]
    schedules: tuple[Any, ...]
    sensors: tuple[dg.SensorDefinition, ...]

    @property
    def name(self) -> str:
        """The first part of the asset keys."""
        return self.dataset.name

    @property
    def defs(self) -> dg.Definitions:
        """Definitions with all of it. They need the resources `scrape_do` and `scrape_do_parquet`."""
        return dg.Definitions(
            assets=self.assets,
            asset_checks=self.asset_checks,
            jobs=self.jobs,
            schedules=self.schedules,
            sensors=self.sensors,
        )


DATASET_TAG = "scrapedo/dataset"
"""On a run that the completion sensor has asked for: the dataset, as the ledger calls it."""


COLLECTS_TAG = "scrapedo/collects"
"""On a run of ops that collects what it submits itself: of that, no asset is planned that would tell."""


def ad_hoc_dataset(name: str, **settings: Any) -> Dataset:
    """A dataset whose partitions are what ops submit: dynamic ones, under the name of the dataset."""
    return Dataset(
        name=name,
        jobs_key=dg.AssetKey([name, "jobs"]),
        tasks_key=dg.AssetKey([name, "tasks"]),
        contents_key=dg.AssetKey([name, "contents"]),
        partitions_def=dg.DynamicPartitionsDefinition(name=name),
        **settings,
    )
