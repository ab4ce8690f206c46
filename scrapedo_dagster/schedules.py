"""A schedule of a dataset from one argument."""

from typing import Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset


def build_schedules(job: Any, dataset: Dataset, schedule: bool | str) -> tuple[Any, ...]:
    """The schedules of a dataset: none or one, which is stopped until somebody starts it, since it costs credits.

    Args:
        job: the one that submits.
        dataset: the dataset.
        schedule: True for the cadence of the partitions' time windows, or a cron expression.

    Raises:
        dg.DagsterInvalidDefinitionError: the argument does not fit the partitions definition.
    """
    if schedule is False:
        return ()
    has_windows = _has_windows(dataset.partitions_def)
    where = f"scrape_do_assets(name={dataset.name!r}, schedule={schedule!r})"
    if schedule is True and not has_windows:
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: only partitions with time windows have a cadence of their own. Give a cron expression, such as "
            'schedule="0 6 * * *".'
        )
    if schedule is not True and has_windows:
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: partitions with time windows are scheduled by their own cadence. Give schedule=True; the hour "
            "is the partitions definition's `hour_offset` and `minute_offset`."
        )
    if isinstance(dataset.partitions_def, dg.DynamicPartitionsDefinition):
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: Dagster has no schedule for dynamic partitions. Submit a partition when you add it: from a "
            f"sensor, with dg.RunRequest(partition_key=..., job_name={dataset.submit_job_name!r})."
        )
    name = f"{dataset.submit_job_name}_schedule"
    if dataset.partitions_def is None:
        return (dg.ScheduleDefinition(name=name, job=job, cron_schedule=str(schedule)),)
    cron = None if schedule is True else str(schedule)
    return (dg.build_schedule_from_partitioned_job(job, name=name, cron_schedule=cron),)


def _has_windows(partitions_def: dg.PartitionsDefinition | None) -> bool:
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        return any(_has_windows(each.partitions_def) for each in partitions_def.partitions_defs)
    return isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
