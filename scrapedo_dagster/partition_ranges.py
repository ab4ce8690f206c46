"""Many partitions as few ranges, which is how Dagster runs many of them at once."""

from collections.abc import Sequence

import dagster as dg


def ranges_of(
    partitions: set[str], partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> list[tuple[str, ...]]:
    """The partitions as runs of neighbours in the order of their definition, longest first.

    A partition that the definition does not have any more is in none of them. A range of two dimensions spans all
    combinations of both, so that each stays within one key of the first dimension.
    """
    ranges: list[list[str]] = []
    previous: tuple[int, str] | None = None
    for index, key in enumerate(partitions_def.get_partition_keys(dynamic_partitions_store=instance)):
        if str(key) not in partitions:
            continue
        row = min(key.keys_by_dimension.items())[1] if isinstance(key, dg.MultiPartitionKey) else ""
        if previous == (index - 1, row):
            ranges[-1].append(str(key))
        else:
            ranges.append([str(key)])
        previous = (index, row)
    return sorted((tuple(each) for each in ranges), key=len, reverse=True)


def run_tags_of(keys: Sequence[str]) -> dict[str, str]:
    """The tags of a run of a range."""
    return {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}


def keys_between(
    first: str, last: str, partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> list[str]:
    """The partitions of a run of a range."""
    keys = partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    if not isinstance(partitions_def, dg.MultiPartitionsDefinition):
        names = [str(key) for key in keys]
        return names[names.index(first) : names.index(last) + 1] if {first, last} <= set(names) else []
    of_first, of_last = (partitions_def.get_partition_key_from_str(key).keys_by_dimension for key in (first, last))
    spans = {
        each.name: set(keys_between(of_first[each.name], of_last[each.name], each.partitions_def, instance))
        for each in partitions_def.partitions_defs
    }
    return [
        str(key)
        for key in keys
        if isinstance(key, dg.MultiPartitionKey)
        and all(value in spans[name] for name, value in key.keys_by_dimension.items())
    ]
