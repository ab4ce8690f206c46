"""Requests the runs that collect generations whose jobs have ended."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import dagster as dg

from scrapedo_dagster.dataset import DATASET_TAG, Dataset
from scrapedo_dagster.engine.collection.run_retry_schedule import MAX_ATTEMPTS, NextAction, delay_after
from scrapedo_dagster.engine.ledger.records import GenerationRecord
from scrapedo_dagster.execution.collection_plan import ByPartition, group_by_action, unowned_generations
from scrapedo_dagster.execution.event_log import reported_generations
from scrapedo_dagster.execution.run_activity import RunActivity
from scrapedo_dagster.execution.tick_session import TickSession, Unconfirmed
from scrapedo_dagster.partitions.ranges import ranges_of, run_request
from scrapedo_dagster.text import partition_label, partitions_label

Range: TypeAlias = tuple[str, ...] | tuple[None]


def request_collecting_runs(session: TickSession, unconfirmed: Unconfirmed, runs: RunActivity) -> list[dg.RunRequest]:
    """Request runs for the generations that can be collected and that no run works on."""
    requests: list[dg.RunRequest] = []
    for name, dataset in session.datasets.items():
        generations = {record: batches for record, batches in unconfirmed.items() if record.ref.dataset == name}
        if generations:
            requester = _Requester(session, dataset)
            due = requester.due(generations, runs)
            # The longest ranges first: the others may grow until a later tick has room for them.
            for partitions in requester.ranges(due):
                if len(requests) < session.limits.runs:
                    requests += requester.request(partitions, due)
    return requests


@dataclass(frozen=True)
class _Requester:
    """Requests the collecting runs of one dataset."""

    session: TickSession
    dataset: Dataset

    def due(self, generations: Unconfirmed, runs: RunActivity) -> ByPartition:
        """Return the generations to collect now. Confirms those that Dagster already shows as materialized."""
        now = self.session.ledger.now()
        unowned = unowned_generations(generations, runs, runs.collecting_partitions(self.dataset), now)
        reported = self._reported([record for record in unowned if record.completed_at is not None])
        self.session.ledger.generations.mark_confirmed(reported)
        actions = group_by_action({record: unowned[record] for record in unowned if record not in reported}, now)
        self._log_exhausted_attempts(actions[NextAction.INTERVENE])
        return actions[NextAction.COLLECT]

    def ranges(self, due: ByPartition) -> Sequence[Range]:
        """Group the partitions into ranges, longest first. Logs those that the dataset no longer has."""
        ranges: Sequence[Range]
        if self.dataset.partitions_def is None:
            ranges = [(None,)] if None in due else []
        else:
            keys = {key for key in due if key is not None}
            ranges = ranges_of(keys, self.dataset.partitions_def, self.session.instance) if keys else []
        if gone := due.keys() - {key for each in ranges for key in each}:
            self.session.log.error(
                f"{self.dataset.name}: what was submitted for {partitions_label(gone)} cannot be collected: the "
                "dataset has no such partition. Add it again before its results expire."
            )
        return ranges

    def request(self, partitions: Range, due: ByPartition) -> list[dg.RunRequest]:
        """Request a run for a range; several if another sensor has just requested runs for some of its partitions."""
        key = uuid.uuid4().hex
        # Recorded before it is launched: a tick that dies in between loses a minute, and launches nothing twice.
        records = self.session.ledger.generations.mark_collection_requested(
            [due[partition] for partition in partitions], key, again_after=delay_after
        )
        recorded = {record.ref.partition: record for record in records}
        ranges = [partitions] if len(recorded) == len(partitions) else self.ranges(recorded)
        return [self._run_request(each, recorded, f"{key}-{number}") for number, each in enumerate(ranges)]

    def _reported(self, complete: Sequence[GenerationRecord]) -> set[GenerationRecord]:
        """Return those that are reported to Dagster. A run may die after it wrote the files and before that."""
        key = self.dataset.contents_key  # reported last
        numbers = reported_generations(self.session.instance, key, [each.ref.partition for each in complete])
        return {each for each in complete if numbers.get(each.ref.partition, 0) >= each.number}

    def _run_request(self, partitions: Range, due: ByPartition, key: str) -> dg.RunRequest:
        attempt = max(due[partition].collect_attempts for partition in partitions) + 1
        self.session.log.info(f"{self.dataset.name}: collecting {_range_label(partitions)} (attempt {attempt}).")
        tags = {DATASET_TAG: self.dataset.ledger_name, "scrapedo/attempt": str(attempt)}
        return run_request(self.dataset.collect_job_name, partitions, run_key=key, tags=tags)

    def _log_exhausted_attempts(self, exhausted: ByPartition) -> None:
        if exhausted:
            self.session.log.error(
                f"{self.dataset.name}: {MAX_ATTEMPTS} runs to collect {partitions_label(exhausted)} have failed, and "
                "no more are launched before the last day. Read the log of the last one, and materialize "
                f"{self.dataset.tasks_key.to_user_string()!r} and {self.dataset.contents_key.to_user_string()!r} "
                "before the results expire."
            )


def _range_label(partitions: Range) -> str:
    first, last = partitions[0], partitions[-1]
    return partition_label(first) if len(partitions) == 1 else f"{len(partitions)} partitions, {first!r} to {last!r}"
