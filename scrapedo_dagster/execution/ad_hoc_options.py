"""How ad-hoc partitions were ordered: told to Dagster as they are submitted, for whoever collects them later.

The assets of a dataset know from the code how they are scraped. What was given to an op is known to its run alone, and
the run that collects may be another one: it must neither send batches that the first one left nor try failed targets
again with other options.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.ops_config import WITHHELD, withheld

if TYPE_CHECKING:
    from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
    from scrapedo_dagster.execution.session import StepSession


_ORDER = "scrapedo/order"


def record_options(context: dg.OpExecutionContext, dataset: Dataset, partition: str) -> None:
    """Tell how a partition is scraped, as an observation of `jobs`. Do it before anything is submitted."""
    order = {
        "options": dataset.options.model_dump(mode="json", exclude_none=True, exclude=WITHHELD),
        "withheld": withheld(dataset.options),
        "max_open_jobs": dataset.max_open_jobs,
        "retry_failed_targets": dataset.retry_failed_targets,
    }
    context.log_event(
        dg.AssetObservation(dataset.jobs_key, partition=partition, metadata={_ORDER: dg.MetadataValue.json(order)})
    )


def collector_with_recorded_options(session: StepSession, partition: str | None) -> PartitionCollector:
    """What brings a partition home in the way in which it was ordered."""
    from scrapedo_dagster.execution.collect_only import CollectOnlySubmitter  # not before the step: it loads the engine

    order = _order_of(session.instance, session.dataset.jobs_key, partition)
    if order is None:
        collector, unknown = session.collector(partition), ["options"]
    else:
        dataset = session.dataset.model_copy(
            update={
                "options": ScrapeOptions.model_validate(order["options"]),
                "max_open_jobs": order["max_open_jobs"],
                "retry_failed_targets": order["retry_failed_targets"],
            }
        )
        collector, unknown = replace(session, dataset=dataset).collector(partition), order["withheld"]
    if not unknown:
        return collector
    of = collector.submitter
    submitter = CollectOnlySubmitter(of.ledger, of.client, of.settings, of.log, unknown=tuple(unknown))
    return replace(collector, submitter=submitter)


def _order_of(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> dict[str, Any] | None:
    events = instance.fetch_observations(
        dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition]), limit=1
    )
    observation = events.records[0].asset_observation if events.records else None
    told = observation.metadata.get(_ORDER) if observation else None
    return told.value if isinstance(told, dg.JsonMetadataValue) and isinstance(told.value, dict) else None
