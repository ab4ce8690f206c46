"""What Dagster knows of the runs that work on datasets."""

from collections.abc import Iterable
from functools import cached_property

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.partition_ranges import keys_between
from scrapedo_dagster.termination import was_terminated

COLLECTS_TAG = "scrapedo/collects"
"""On a run of ops that collects what it submits itself: of that, no asset is planned that would tell."""

_FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


class Runs:
    """The runs of an instance, as they are when they are first asked for."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def is_active(self, root_run_id: str | None) -> bool:
        """Whether a run, or a retry of it, has not ended."""
        return any(root_run_id in {run.run_id, run.root_run_id} for run in self._active)

    def brings_home(self, root_run_id: str | None) -> bool:
        """Whether a run of ops that has submitted something is going to collect it too, or a retry of it is."""
        return any(root_run_id in {run.run_id, run.root_run_id} and COLLECTS_TAG in run.tags for run in self._active)

    def was_terminated(self, root_run_id: str | None) -> bool:
        """Whether somebody has terminated a run, or its last retry."""
        if root_run_id is None:
            return False
        retries = self._instance.get_runs(dg.RunsFilter(tags={"dagster/root_run_id": root_run_id}), limit=1)
        last = retries[0] if retries else self._instance.get_run_by_id(root_run_id)
        return last is not None and was_terminated(self._instance, last)

    def partitions_at_work(self, dataset: Dataset) -> set[str | None]:
        """The partitions that an active run collects, or is going to."""
        found: set[str | None] = set()
        for run in self._active:
            if self._collects(run, dataset):
                found |= set(_partitions_of(run, dataset, self._instance))
        return found

    @cached_property
    def _active(self) -> list[dg.DagsterRun]:
        statuses = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
        return list(self._instance.get_runs(dg.RunsFilter(statuses=statuses)))

    def _collects(self, run: dg.DagsterRun, dataset: Dataset) -> bool:
        if run.asset_selection is not None:
            return dataset.tasks_key in run.asset_selection
        if run.job_name in {dataset.submit_job_name, dataset.collect_job_name}:
            return run.job_name == dataset.collect_job_name
        # Somebody's own job: what it is going to materialize was recorded as it was created.
        planned = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        return any(each.asset_key == dataset.tasks_key for each in (log.dagster_event for log in planned) if each)


def _partitions_of(run: dg.DagsterRun, dataset: Dataset, instance: dg.DagsterInstance) -> Iterable[str | None]:
    if dataset.partitions_def is None:
        return [None]
    start, end = (run.tags.get(f"dagster/asset_partition_range_{edge}") for edge in ("start", "end"))
    if start is None or end is None:
        return [run.tags.get("dagster/partition")]
    return keys_between(start, end, dataset.partitions_def, instance)
