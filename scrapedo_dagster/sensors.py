"""The completion sensor: it sees jobs end, and launches the runs that bring their results home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset

if TYPE_CHECKING:
    from scrapedo_dagster.dataset import ScrapeDoDataset

_INTERVAL = 10  # seconds between two ticks


def build_scrape_do_sensor(
    *datasets: ScrapeDoDataset,
    name: str = "scrape_do_completion",
    minimum_interval_seconds: int = _INTERVAL,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """A sensor that brings the results of datasets home, so that no run waits for Scrape.do.

    At each tick it looks at open jobs, near expiry first, and launches runs of `{name}_collect` for partitions whose
    jobs have ended: one run for all neighbours. A collecting run that failed is launched again after 1, 2, 4, ... 60
    minutes, 12 times at most. It also tidies up: submissions whose run died are looked for at Scrape.do and adopted;
    jobs whose run a person terminated are canceled.

    It runs by default: results that nobody collects expire after three days. All it knows is in the ledger, so that it
    may be stopped, reset or replaced at any time.

    Args:
        datasets: what it is for. Each dataset needs one such sensor: its own (`dataset.sensors`) or a common one.
        name: of the sensor.
        minimum_interval_seconds: between two ticks.
        default_status: whether it runs before anybody has started it.
    """
    if not datasets:
        raise dg.DagsterInvalidDefinitionError("build_scrape_do_sensor() needs at least one dataset.")
    return _completion_sensor(
        name,
        [(each.dataset, job) for each in datasets for job in each.jobs if job.name == each.dataset.collect_job_name],
        minimum_interval_seconds,
        default_status,
    )


def dataset_sensor(dataset: Dataset, collect_job: Any) -> dg.SensorDefinition:
    """The completion sensor of one dataset."""
    return _completion_sensor(
        f"{dataset.name}_completion", [(dataset, collect_job)], _INTERVAL, dg.DefaultSensorStatus.RUNNING
    )


def _completion_sensor(
    name: str, collect_jobs: Sequence[tuple[Dataset, Any]], interval: int, default_status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    by_key = {dataset.resource_key: dataset.name for dataset, _ in collect_jobs}
    if len(by_key) > 1:
        raise dg.DagsterInvalidDefinitionError(
            f"sensor {name!r}: a sensor polls one account, but its datasets have different values of resource_key: "
            f"{', '.join(f'{key!r} ({dataset})' for key, dataset in by_key.items())}. Build one sensor for each."
        )
    [resource_key] = by_key

    @dg.sensor(
        name=name,
        required_resource_keys={resource_key},
        jobs=[job for _, job in collect_jobs],
        minimum_interval_seconds=interval,
        default_status=default_status,
        description="Polls Scrape.do jobs, and launches the runs that collect their results.",
    )
    def completion(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from scrapedo_dagster.execution.sensor_tick import CompletionTick  # not before the tick: it loads the engine

        scrape_do = getattr(context.resources, resource_key)
        return CompletionTick(context, scrape_do, {dataset.ledger_name: dataset for dataset, _ in collect_jobs}).run()

    return completion
