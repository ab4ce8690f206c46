"""Records the options of an ad-hoc list in the ledger, and restores them for the run that collects it.

The options of other datasets are in the code. Those of an ad-hoc list are in the config of the run that submits it, and
another run may collect it: that one must not send unsent batches, or retry failed targets, with other options.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.ops_config import WITHHELD, withheld

if TYPE_CHECKING:  # importing these loads the engine, which definitions do without
    from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
    from scrapedo_dagster.engine.ledger.records import RecordedOptions
    from scrapedo_dagster.execution.session import StepSession


def options_to_record(dataset: Dataset) -> RecordedOptions:
    """Return what the ledger keeps of the options of an ad-hoc list. Fields that may hold secrets are left out."""
    from scrapedo_dagster.engine.ledger.records import RecordedOptions

    return RecordedOptions(
        options=dataset.options.model_dump(mode="json", exclude_none=True, exclude=WITHHELD),
        withheld=tuple(withheld(dataset.options)),
        max_open_jobs=dataset.max_open_jobs,
        retry_failed_targets=dataset.retry_failed_targets,
    )


def collector_with_recorded_options(session: StepSession, partition: str | None) -> PartitionCollector:
    """Return a collector that uses the recorded options. It sends nothing if they are not recorded, or not all."""
    generations, ref = session.scrape_do.ledger.generations, session.ref(partition)
    recorded = generations.recorded_options(ref, generations.newest(ref))
    if recorded is None:
        return replace(session, unknown_options=("options",)).collector(partition)
    dataset = session.dataset.model_copy(
        update={
            "options": ScrapeOptions.model_validate(recorded.options),
            "max_open_jobs": recorded.max_open_jobs,
            "retry_failed_targets": recorded.retry_failed_targets,
        }
    )
    return replace(session, dataset=dataset, unknown_options=recorded.withheld).collector(partition)
