"""Tells Dagster partition by partition what a step has done, also when it failed in the middle.

A step that succeeds has materialized all its partitions. One that fails in a run of many partitions would leave all of
them red, so that what was done before is told by events of their own: exactly the others are red. Dagster then skips
the step of asset checks, so that what these say of the green partitions is told as well.
"""

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

import dagster as dg

from scrapedo_dagster.execution.metadata import Metadata
from scrapedo_dagster.text import join_limited

_ASKED_AT_ONCE = 500  # partitions whose events are read by one query


class PartitionEvents:
    """What a step has done. Enter it around the work if what was done stands when the step is interrupted.

    Args:
        context: of the step.
        keys: the assets that the step materializes.
        partitions: those of the step.
        evaluate: what the asset checks say of some partitions, if the assets of the step have any.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        keys: Sequence[dg.AssetKey],
        partitions: Sequence[str | None],
        evaluate: Callable[[Sequence[str | None]], Iterable[dg.AssetCheckEvaluation]] = lambda _partitions: (),
    ) -> None:
        self._context = context
        self._keys = keys
        self._partitions = partitions
        self._evaluate = evaluate
        self._done: dict[str | None, dict[dg.AssetKey, Metadata]] = {}
        self._problems: dict[str | None, Exception] = {}

    def done(self, partition: str | None, metadata: dict[dg.AssetKey, Metadata]) -> None:
        """A partition is materialized, with the metadata of each asset."""
        self._done[partition] = metadata

    def failed(self, partition: str | None, problem: Exception) -> None:
        """A partition could not be materialized. Raised at once where it is the only one of the step."""
        if len(self._partitions) == 1:
            raise problem
        self._problems[partition] = problem
        self._context.log.error(f"Partition {partition!r}: {_worded(problem)}")

    def results(self) -> tuple[dg.MaterializeResult[None], ...]:
        """What the step returns, one result an asset.

        Raises:
            dg.Failure: some partitions failed. The others are told, and are green.
        """
        if self._problems:
            green = list(self._done)
            self._tell_done()
            if green:
                self._tell_checks(green)
            raise dg.Failure(self._told(), allow_retries=False) from next(iter(self._problems.values()))
        if len(self._partitions) == 1:
            [told] = self._done.values()
            return tuple(dg.MaterializeResult(asset_key=key, metadata=told[key]) for key in self._keys)
        for partition, of_assets in self._done.items():
            for key, metadata in of_assets.items():
                self._context.add_asset_metadata(metadata, asset_key=key, partition_key=partition)
        return tuple(dg.MaterializeResult(asset_key=key) for key in self._keys)

    def __enter__(self) -> "PartitionEvents":  # noqa: PYI034 - Self is of Python 3.11
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """An interrupt is raised, after what stands was told."""
        if exc is not None and len(self._partitions) > 1:
            self._tell_done()

    def _tell_done(self) -> None:
        done, self._done = self._done, {}
        for partition, of_assets in done.items():
            for key, metadata in of_assets.items():
                self._context.log_event(dg.AssetMaterialization(asset_key=key, partition=partition, metadata=metadata))

    def _tell_checks(self, partitions: Sequence[str | None]) -> None:
        try:
            evaluations = self._evaluate(partitions)
        except Exception as problem:  # noqa: BLE001 - whatever it is, what failed before must not be lost
            self._context.log.warning(
                f"The asset checks of the {len(partitions)} other partitions could not be evaluated: execute them in "
                f"the UI. {_worded(problem)}"
            )
        else:
            for each in evaluations:
                self._context.log_event(each)

    def _told(self) -> str:
        problems = (f"{key!r}: {_worded(problem)}" for key, problem in self._problems.items())
        return (
            f"{len(self._problems)} of {len(self._partitions)} partitions failed; the others are materialized. "
            f"Materialize again those that failed: {join_limited(problems, separator='; ')}"
        )


def reported_generations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Iterable[str | None]
) -> dict[str | None, int]:
    """The generation that the newest event of each partition of an asset tells of; 0 if it tells of none."""
    told: dict[str | None, int] = {}
    listed = list(partitions)
    if None in listed:
        for record in instance.fetch_materializations(key, limit=1).records:
            told[None] = _generation_of(record)
    keys = [each for each in listed if each is not None]
    while keys:
        asked, keys = keys[:_ASKED_AT_ONCE], keys[_ASKED_AT_ONCE:]
        of_these = dg.AssetRecordsFilter(key, asset_partitions=asked)
        records = instance.fetch_materializations(of_these, limit=len(asked)).records
        for record in records:  # newest first
            told.setdefault(record.partition_key, _generation_of(record))
        if len(records) == len(asked):  # those that have several may have left no room for the others
            keys += [each for each in asked if each not in told]
    return told


def _generation_of(record: dg.EventLogRecord) -> int:
    materialization = record.asset_materialization
    told = materialization.metadata.get("scrapedo/generation") if materialization else None
    return (told.value or 0) if isinstance(told, dg.IntMetadataValue) else 0


def _worded(problem: Exception) -> str:
    return str(problem) if isinstance(problem, dg.Failure) else f"{type(problem).__name__}: {problem}"
