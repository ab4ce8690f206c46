"""One partition at a time, in a run of many."""

import dagster as dg
from dagster import (
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionKeyRange,
    TimeWindow,
    TimeWindowPartitionsDefinition,
)


class PartitionContext(dg.AssetExecutionContext):
    """The context of a step, as it would be in a run of one of its partitions alone.

    A backfill runs many partitions in one step, and a function that lists the targets of `context.partition_key` need
    not know of that.
    """

    def __init__(self, context: dg.AssetExecutionContext, partition_key: str) -> None:
        super().__init__(context.op_execution_context)
        self._partition_key = partition_key

    @property
    def has_partition_key(self) -> bool:
        """Always: it is the context of one partition."""
        return True

    @property
    def has_partition_key_range(self) -> bool:
        """Never: it is the context of one partition."""
        return False

    @property
    def partition_key(self) -> str:
        """The partition; of a multi-partitions definition, a `MultiPartitionKey`."""
        return self._partition_key

    @property
    def multi_partition_key(self) -> MultiPartitionKey:
        """The partition, of a multi-partitions definition."""
        if not isinstance(self._partition_key, MultiPartitionKey):
            raise dg.DagsterInvariantViolationError("This asset has no multi-partitions definition.")
        return self._partition_key

    @property
    def partition_keys(self) -> list[str]:
        """The partition alone."""
        return [self._partition_key]

    @property
    def partition_key_range(self) -> PartitionKeyRange:
        """The partition alone."""
        return PartitionKeyRange(self._partition_key, self._partition_key)

    @property
    def partition_time_window(self) -> TimeWindow:
        """The time window of the partition, or of its time dimension."""
        partitions_def = self.assets_def.partitions_def
        if isinstance(partitions_def, TimeWindowPartitionsDefinition | MultiPartitionsDefinition):
            return partitions_def.time_window_for_partition_key(self._partition_key)
        raise dg.DagsterInvariantViolationError("This asset has no partitions definition with time windows.")


def partitions_of(context: dg.AssetExecutionContext) -> list[str | None]:
    """The partitions of a step, in their order; [None] of an unpartitioned asset."""
    return list(context.partition_keys) if context.assets_def.partitions_def is not None else [None]


def context_of(context: dg.AssetExecutionContext, partition: str | None) -> dg.AssetExecutionContext:
    """The context of one of the partitions of a step."""
    return context if partition is None else PartitionContext(context, partition)
