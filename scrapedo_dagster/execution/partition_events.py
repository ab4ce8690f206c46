"""Reports to Dagster which partitions a step has materialized, also when it fails or is interrupted.

A step that succeeds has materialized all its partitions. If one fails in a run of many, Dagster would leave all of them
red. So each partition that succeeded is reported by an event of its own, and exactly the failed ones are red. Dagster
then skips the step of the asset checks, so their evaluations for the green partitions are reported as well.
"""

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Generic, TypeVar

import dagster as dg

from scrapedo_dagster.execution.metadata import MetadataByAsset
from scrapedo_dagster.text import join_limited

Result = TypeVar("Result")


class PartitionEvents(Generic[Result]):
    """Collects the result of each partition of a step, and reports them at its end.

    Enter it around the work if results stand when the step is interrupted.

    Args:
        context: of the step.
        keys: the assets that the step materializes, in the order in which they are reported.
        partitions: the partitions of the step.
        to_metadata: makes metadata of the result of one partition, for each asset of the step.
        evaluate_checks: evaluates the asset checks of some partitions, if the assets of the step have any.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        keys: Sequence[dg.AssetKey],
        partitions: Sequence[str | None],
        to_metadata: Callable[[Result], MetadataByAsset],
        evaluate_checks: Callable[[Sequence[str | None]], Iterable[dg.AssetCheckEvaluation]] = lambda _partitions: (),
    ) -> None:
        self._context = context
        self._keys = keys
        self._partitions = partitions
        self._to_metadata = to_metadata
        self._evaluate_checks = evaluate_checks
        self._metadata: dict[str | None, MetadataByAsset] = {}
        self._errors: dict[str | None, Exception] = {}

    def succeeded(self, partition: str | None, result: Result) -> None:
        """Record that a partition is materialized. Raises if no metadata can be made of its result."""
        self._metadata[partition] = self._to_metadata(result)

    def failed(self, partition: str | None, error: Exception) -> None:
        """Record that a partition could not be materialized. Raises the error if the step has no other partition."""
        if len(self._partitions) == 1:
            raise error
        self._errors[partition] = error
        self._context.log.error(f"Partition {partition!r}: {_message_of(error)}")

    def materialize_results(self) -> tuple[dg.MaterializeResult[None], ...]:
        """Return what the step returns: one result for each asset.

        Raises:
            dg.Failure: some partitions failed. The others are reported, and are green.
        """
        if self._errors:
            green = list(self._metadata)
            self._log_materializations()
            if green:
                self._log_check_evaluations(green)
            raise dg.Failure(self._failure_message(), allow_retries=False) from next(iter(self._errors.values()))
        if len(self._partitions) == 1:
            [metadata] = self._metadata.values()
            return tuple(dg.MaterializeResult(asset_key=key, metadata=metadata[key]) for key in self._keys)
        for partition, metadata in self._metadata.items():
            for key, metadata_of_asset in metadata.items():
                self._context.add_asset_metadata(metadata_of_asset, asset_key=key, partition_key=partition)
        return tuple(dg.MaterializeResult(asset_key=key) for key in self._keys)

    def __enter__(self) -> "PartitionEvents[Result]":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report what succeeded before an interrupt, which is then raised."""
        if exc is not None and len(self._partitions) > 1:
            self._log_materializations()

    def _log_materializations(self) -> None:
        unreported, self._metadata = self._metadata, {}
        for partition, metadata in unreported.items():
            for key, of_asset in metadata.items():
                self._context.log_event(dg.AssetMaterialization(asset_key=key, partition=partition, metadata=of_asset))

    def _log_check_evaluations(self, partitions: Sequence[str | None]) -> None:
        try:
            evaluations = self._evaluate_checks(partitions)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not hide what failed before
            self._context.log.warning(
                f"The asset checks of the {len(partitions)} other partitions could not be evaluated: execute them in "
                f"the UI. {_message_of(error)}"
            )
        else:
            for each in evaluations:
                self._context.log_event(each)

    def _failure_message(self) -> str:
        errors = (f"{key!r}: {_message_of(error)}" for key, error in self._errors.items())
        return (
            f"{len(self._errors)} of {len(self._partitions)} partitions failed; the others are materialized. "
            f"Materialize the failed ones again: {join_limited(errors, separator='; ')}"
        )


def _message_of(error: Exception) -> str:
    return str(error) if isinstance(error, dg.Failure) else f"{type(error).__name__}: {error}"
