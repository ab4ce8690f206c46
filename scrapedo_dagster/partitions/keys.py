"""Which partition keys a range, a run or a step has."""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

import dagster as dg


def keys_in_range(
    key_range: dg.PartitionKeyRange, partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> list[str]:
    """List the keys of a range, in order. Empty if the definition no longer has both of its ends.

    A range of two dimensions has every combination of the ranges of both.
    """
    with dg.partition_loading_context(dynamic_partitions_store=instance):
        if not all(map(partitions_def.has_partition_key, key_range)):
            return []
        return [str(key) for key in partitions_def.get_partition_keys_in_range(key_range)]


def keys_around(
    keys: Collection[str], partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> Sequence[str]:
    """List the keys of a definition in order, at least from the first to the last of `keys`."""
    if not isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    # Ten years of hours take seconds to list, and a tick of the sensor has few of them.
    known = sorted(filter(partitions_def.has_partition_key, keys), key=partitions_def.start_time_for_partition_key)
    return keys_in_range(dg.PartitionKeyRange(known[0], known[-1]), partitions_def, instance) if known else []


def neighbors(wanted: Collection[str], keys: Iterable[str]) -> list[tuple[str, ...]]:
    """Group the wanted ones of some keys with those next to them."""
    return [tuple(group) for is_wanted, group in groupby(keys, wanted.__contains__) if is_wanted]


def partitions_of_run(
    run: dg.DagsterRun, partitions_def: dg.PartitionsDefinition | None, instance: dg.DagsterInstance
) -> list[str | None]:
    """List the partitions of a run, by its tags; [None] if they name none."""
    start, end = (run.tags.get(f"dagster/asset_partition_range_{edge}") for edge in ("start", "end"))
    if partitions_def is None:
        return [None]
    if start is None or end is None:
        return [run.tags.get("dagster/partition")]
    return [*keys_in_range(dg.PartitionKeyRange(start, end), partitions_def, instance)]


def partitions_of_step(context: dg.AssetExecutionContext) -> list[str | None]:
    """List the partitions of a step, in order; [None] for an unpartitioned asset."""
    return list(context.partition_keys) if context.assets_def.partitions_def is not None else [None]
