"""The context of one partition, in a step that runs many."""

import dagster as dg
from dagster import (
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionKeyRange,
    TimeWindow,
    TimeWindowPartitionsDefinition,
)


class PartitionContext(dg.AssetExecutionContext):
    """The context of a step as it would be if its run had one partition only.

    A backfill runs many partitions in one step. A function that lists the targets of `context.partition_key` works
    there as well.
    """

    def __init__(self, context: dg.AssetExecutionContext, partition_key: str) -> None:
        super().__init__(context.op_execution_context)
        self._partition_key = partition_key

    @property
    def has_partition_key(self) -> bool:
        """True."""
        return True

    @property
    def has_partition_key_range(self) -> bool:
        """False."""
        return False

    @property
    def partition_key(self) -> str:
        """The partition; a `MultiPartitionKey` if the asset has two dimensions."""
        return self._partition_key

    @property
    def multi_partition_key(self) -> MultiPartitionKey:
        """The partition, if the asset has two dimensions."""
        if not isinstance(self._partition_key, MultiPartitionKey):
            raise dg.DagsterInvariantViolationError("This asset has no multi-partitions definition.")
        return self._partition_key

    @property
    def partition_keys(self) -> list[str]:
        """The partition, as a list of one."""
        return [self._partition_key]

    @property
    def partition_key_range(self) -> PartitionKeyRange:
        """The partition, as a range of one."""
        return PartitionKeyRange(self._partition_key, self._partition_key)

    @property
    def partition_time_window(self) -> TimeWindow:
        """The time window of the partition, or of its time dimension if the asset has two dimensions."""
        partitions_def = self.assets_def.partitions_def
        if isinstance(partitions_def, TimeWindowPartitionsDefinition | MultiPartitionsDefinition):
            return partitions_def.time_window_for_partition_key(self._partition_key)
        raise dg.DagsterInvariantViolationError("This asset has no partitions definition with time windows.")


def context_of(context: dg.AssetExecutionContext, partition: str | None) -> dg.AssetExecutionContext:
    """Return the context of one of the partitions of a step; the step's own for an unpartitioned asset."""
    return context if partition is None else PartitionContext(context, partition)
