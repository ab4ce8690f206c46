"""Datasets: their options and asset keys, and the Dagster definitions that are made of them."""

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
        """Name in the ledger: the dataset's name with its key prefix, such as `us/products`.

        Code locations that share a ledger may have datasets of one name with different prefixes. If a translator has
        removed the name from the key of `tasks`, there is no prefix.
        """
        *path, _table = self.tasks_key.path
        while path and path[-1] != self.name:
            path.pop()
        return dg.AssetKey(path).to_user_string() if path else self.name

    @property
    def submit_job_name(self) -> str:
        """Name of the Dagster job that submits."""
        return f"{self.name}_submit"

    @property
    def collect_job_name(self) -> str:
        """Name of the Dagster job that collects."""
        return f"{self.name}_collect"

    def tables(self, storage: ScrapeDoParquetIOManager, partition: str | None) -> PartitionTables:
        """Return the tables that hold the results of a partition."""
        from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
        from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA

        store = storage.store
        return PartitionTables(
            store.table(self.tasks_key.path, TASKS_SCHEMA),
            store.table(self.contents_key.path, CONTENTS_SCHEMA),
            partition,
        )


@dataclass(frozen=True)
class ScrapeDoDataset:
    """The Dagster definitions of a dataset. Merge `defs` into your definitions.

    Attributes:
        dataset: its options and asset keys.
        assets: `[name, "jobs"]`, and one multi-asset with `[name, "tasks"]` and `[name, "contents"]`.
        asset_checks: the checks of `tasks`.
        jobs: the submitting job, such as `{name}_submit`, and `{name}_collect`.
        schedules: the schedule of the submitting job, if there is one.
        sensors: the completion sensor of this dataset alone; `build_scrape_do_sensor` builds one for several datasets.
    """

    dataset: Dataset
    assets: tuple[dg.AssetsDefinition | dg.AssetSpec, ...]
    asset_checks: tuple[dg.AssetChecksDefinition, ...]
    jobs: tuple[Any, ...]
    schedules: tuple[Any, ...]
    sensors: tuple[dg.SensorDefinition, ...]

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.dataset.name

    @property
    def defs(self) -> dg.Definitions:
        """All of them as `Definitions`, which need the resources of `resource_key` and `io_manager_key`."""
        return dg.Definitions(
            assets=self.assets,
            asset_checks=self.asset_checks,
            jobs=self.jobs,
            schedules=self.schedules,
            sensors=self.sensors,
        )


DATASET_TAG = "scrapedo/dataset"
"""Tag of a run that the completion sensor launched: the dataset's name in the ledger."""


COLLECTS_TAG = "scrapedo/collects"
"""Tag of a run of ops that collects what it submits, which its planned assets do not show."""


def ad_hoc_dataset(name: str, **options: Any) -> Dataset:
    """Make a dataset for what ops submit, with dynamic partitions of the dataset's name."""
    return Dataset(
        name=name,
        jobs_key=dg.AssetKey([name, "jobs"]),
        tasks_key=dg.AssetKey([name, "tasks"]),
        contents_key=dg.AssetKey([name, "contents"]),
        partitions_def=dg.DynamicPartitionsDefinition(name=name),
        **options,
    )
