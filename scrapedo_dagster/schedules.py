"""The schedule of a dataset, from one argument."""

from typing import Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.partitions.ranges import ranges_of, run_request


def build_schedules(job: Any, dataset: Dataset, schedule: bool | str, timezone: str | None = None) -> tuple[Any, ...]:
    """Build the schedules of a dataset: none, or one that is stopped by default, since it costs credits.

    Args:
        job: the job that submits.
        dataset: the dataset.
        schedule: True for the cadence of the partitions' time windows, or a cron expression.
        timezone: of the cron expression, such as `Europe/Berlin`. UTC by default.

    Raises:
        dg.DagsterInvalidDefinitionError: an argument does not fit the partitions definition.
    """
    windows = _time_window_dimensions(dataset.partitions_def)
    where = f"scrape_do_assets(name={dataset.name!r}, schedule={schedule!r})"
    if timezone is not None and (isinstance(schedule, bool) or windows):
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: the time zone {timezone!r} needs a cron expression. Partitions with time windows have the "
            "`timezone` of their definition."
        )
    if schedule is False:
        return ()
    if schedule is True and not windows:
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: only partitions with time windows have a cadence of their own. Give a cron expression, such as "
            'schedule="0 6 * * *".'
        )
    if windows > 1:
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: both dimensions of the partitions have time windows, and Dagster has no schedule for that. "
            "Write one with @dg.schedule."
        )
    if schedule is not True and windows:
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: partitions with time windows are scheduled by their own cadence. Give schedule=True; the hour "
            "is the partitions definition's `hour_offset` and `minute_offset`."
        )
    name = f"{dataset.submit_job_name}_schedule"
    if schedule is True:
        return (dg.build_schedule_from_partitioned_job(job, name=name),)
    cron: dict[str, Any] = {"cron_schedule": str(schedule), "execution_timezone": timezone}
    if dataset.partitions_def is None:
        return (dg.ScheduleDefinition(name=name, job=job, **cron),)
    return (_schedule_of_all_partitions(name, job, cron, dataset, dataset.partitions_def),)


def _schedule_of_all_partitions(
    name: str, job: Any, cron: dict[str, Any], dataset: Dataset, partitions_def: dg.PartitionsDefinition
) -> dg.ScheduleDefinition:
    """Build a schedule that requests few runs of many partitions.

    `dg.build_schedule_from_partitioned_job` requests a run for each static partition, and none for dynamic ones.
    """

    @dg.schedule(name=name, job=job, **cron)
    def all_partitions(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        keys = partitions_def.get_partition_keys(dynamic_partitions_store=context.instance)
        return [
            run_request(dataset.submit_job_name, each)
            for each in ranges_of({str(key) for key in keys}, partitions_def, context.instance)
        ]

    return all_partitions


def _time_window_dimensions(partitions_def: dg.PartitionsDefinition | None) -> int:
    """Count the dimensions with time windows."""
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        return sum(_time_window_dimensions(each.partitions_def) for each in partitions_def.partitions_defs)
    return isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
