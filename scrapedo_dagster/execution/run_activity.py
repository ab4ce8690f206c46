"""What Dagster knows of the runs that work on datasets."""

from collections.abc import Iterable
from functools import cache

import dagster as dg

from scrapedo_dagster.dataset import COLLECTS_TAG, DATASET_TAG, Dataset
from scrapedo_dagster.execution.termination import was_terminated
from scrapedo_dagster.partitions.keys import partitions_of_run

_FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


class Runs:
    """The runs of an instance. Which are active is as it was when this was made."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        statuses = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
        self._active = instance.get_runs(dg.RunsFilter(statuses=statuses))
        self._active_ids = _ids_of(self._active)
        self._collecting_ids = _ids_of(run for run in self._active if COLLECTS_TAG in run.tags)
        self._planned_by = cache(self._planned)  # several datasets ask

    def is_active(self, root_run_id: str | None) -> bool:
        """Whether a run, or a retry of it, has not ended."""
        return root_run_id in self._active_ids

    def collects(self, root_run_id: str | None) -> bool:
        """Whether a run of ops that has submitted something is going to collect it too, or a retry of it is."""
        return root_run_id in self._collecting_ids

    def terminated(self, root_run_ids: set[str]) -> set[str]:
        """Which of these runs, or their last retries, somebody has terminated."""
        if not root_run_ids:
            return set()
        ids = list(root_run_ids)
        last: dict[str, dg.DagsterRun] = {}
        for which in (dg.RunsFilter(tags={"dagster/root_run_id": ids}), dg.RunsFilter(run_ids=ids)):
            for run in self._instance.get_runs(which):  # newest first
                last.setdefault(run.root_run_id or run.run_id, run)
        return {run_id for run_id, run in last.items() if was_terminated(self._instance, run)}

    def partitions_at_work(self, dataset: Dataset) -> set[str | None]:
        """The partitions that an active run collects, or is going to."""
        found: set[str | None] = set()
        for run in self._active:
            if self._collects(run, dataset):
                found |= set(partitions_of_run(run, dataset.partitions_def, self._instance))
        return found

    def _collects(self, run: dg.DagsterRun, dataset: Dataset) -> bool:
        if run.asset_selection:  # a run in the process of who asks for it has an empty one
            return dataset.tasks_key in run.asset_selection
        if run.job_name in {dataset.submit_job_name, dataset.collect_job_name}:
            # Another code location may have a job of this name, of a dataset with another prefix.
            is_ours = run.tags.get(DATASET_TAG, dataset.ledger_name) == dataset.ledger_name
            return is_ours and run.job_name == dataset.collect_job_name
        return dataset.tasks_key in self._planned_by(run.run_id)

    def _planned(self, run_id: str) -> set[dg.AssetKey | None]:
        """What somebody's own job is going to materialize, which was recorded as its run was created."""
        logs = self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        return {log.dagster_event.asset_key for log in logs if log.dagster_event}


def _ids_of(runs: Iterable[dg.DagsterRun]) -> set[str | None]:
    """What the ledger may call them: it knows a run by the first of its retries."""
    return {run_id for run in runs for run_id in (run.run_id, run.root_run_id) if run_id is not None}
