"""The completion sensor, which polls open jobs and launches the runs that collect their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.execution.tick_session import TickLimits

if TYPE_CHECKING:
    from scrapedo_dagster.dataset import ScrapeDoDataset

_INTERVAL = 10  # seconds between two ticks
_LIMITS = TickLimits()


def build_scrape_do_sensor(
    *datasets: ScrapeDoDataset,
    name: str = "scrape_do_completion",
    minimum_interval_seconds: int = _INTERVAL,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """Build a sensor that has the results of datasets collected, so that no run waits for Scrape.do.

    Each tick polls open jobs, those near expiry first, and launches runs of `{name}_collect` for partitions whose jobs
    have ended: one run for all neighbors. A collecting run that failed is launched again after 1, 2, 4, ... 60 minutes,
    at most 12 times. Each tick also cleans up: it reconciles the submissions of runs that died with Scrape.do's list of
    jobs, and cancels the jobs of runs that a person terminated.

    It is running by default: results that are not collected expire after three days. Its state is in the ledger, so it
    may be stopped, reset or replaced at any time.

    Args:
        datasets: the datasets to collect. Each needs one such sensor: its own (`dataset.sensors`) or a shared one.
        name: of the sensor.
        minimum_interval_seconds: between two ticks.
        default_status: the status until a person starts or stops it.
    """
    if not datasets:
        raise dg.DagsterInvalidDefinitionError("build_scrape_do_sensor() needs at least one dataset.")
    return completion_sensor(
        name,
        [(each.dataset, job) for each in datasets for job in each.jobs if job.name == each.dataset.collect_job_name],
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )


def dataset_sensor(dataset: Dataset, collect_job: Any) -> dg.SensorDefinition:
    """Build the completion sensor of one dataset."""
    return completion_sensor(f"{dataset.name}_completion", [(dataset, collect_job)])


def completion_sensor(
    name: str,
    collect_jobs: Sequence[tuple[Dataset, Any]],
    *,
    minimum_interval_seconds: int = _INTERVAL,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    limits: TickLimits = _LIMITS,
    clock: Clock = SYSTEM_CLOCK,
) -> dg.SensorDefinition:
    """Build a completion sensor of datasets, each with its collecting job. See `build_scrape_do_sensor`."""
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
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Polls Scrape.do jobs, and launches the runs that collect their results.",
    )
    def completion(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from scrapedo_dagster.execution.sensor_tick import run_tick  # not before the tick: it loads the engine

        datasets = {dataset.ledger_name: dataset for dataset, _ in collect_jobs}
        return run_tick(context, getattr(context.resources, resource_key), datasets, limits, clock)

    return completion
