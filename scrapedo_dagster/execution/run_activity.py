"""Reads from Dagster which runs work on datasets, and which were terminated."""

from collections.abc import Iterable
from functools import cache

import dagster as dg

from scrapedo_dagster.dataset import COLLECTS_TAG, DATASET_TAG, Dataset
from scrapedo_dagster.execution.termination import was_terminated
from scrapedo_dagster.partitions.keys import partitions_of_run

_FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


class RunActivity:
    """The runs of an instance, of which the active ones are read when this is made.

    The ledger identifies a run by the id of the first of its retries, its root run.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        statuses = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
        self._active = instance.get_runs(dg.RunsFilter(statuses=statuses))
        self._active_ids = _ids_of(self._active)
        self._collecting_ids = _ids_of(run for run in self._active if COLLECTS_TAG in run.tags)
        self._planned_by = cache(self._planned_assets)  # asked for each dataset

    def is_active(self, root_run_id: str | None) -> bool:
        """Return whether a run or a retry of it has not ended."""
        return root_run_id in self._active_ids

    def is_active_and_collects(self, root_run_id: str | None) -> bool:
        """Return whether an active run of ops collects what it has submitted itself."""
        return root_run_id in self._collecting_ids

    def terminated(self, root_run_ids: set[str]) -> set[str]:
        """Return those runs that were asked to terminate, in their last retry."""
        if not root_run_ids:
            return set()
        ids = list(root_run_ids)
        last: dict[str, dg.DagsterRun] = {}
        for runs_filter in (dg.RunsFilter(tags={"dagster/root_run_id": ids}), dg.RunsFilter(run_ids=ids)):
            for run in self._instance.get_runs(runs_filter):  # newest first
                last.setdefault(run.root_run_id or run.run_id, run)
        return {run_id for run_id, run in last.items() if was_terminated(self._instance, run)}

    def collecting_partitions(self, dataset: Dataset) -> set[str | None]:
        """Return the partitions that an active run collects or will collect."""
        return {
            partition
            for run in self._active
            if self._collects(run, dataset)
            for partition in partitions_of_run(run, dataset.partitions_def, self._instance)
        }

    def _collects(self, run: dg.DagsterRun, dataset: Dataset) -> bool:
        if run.asset_selection:  # empty for a run in the process that launched it
            return dataset.tasks_key in run.asset_selection
        if run.job_name in {dataset.submit_job_name, dataset.collect_job_name}:
            # Another code location may have a job of this name, for a dataset with another key prefix.
            is_same = run.tags.get(DATASET_TAG, dataset.ledger_name) == dataset.ledger_name
            return is_same and run.job_name == dataset.collect_job_name
        return dataset.tasks_key in self._planned_by(run.run_id)

    def _planned_assets(self, run_id: str) -> set[dg.AssetKey | None]:
        """Return what a run of a user's own job will materialize. Dagster records it when it creates the run."""
        logs = self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        return {log.dagster_event.asset_key for log in logs if log.dagster_event}


def _ids_of(runs: Iterable[dg.DagsterRun]) -> set[str | None]:
    return {run_id for run in runs for run_id in (run.run_id, run.root_run_id) if run_id is not None}
