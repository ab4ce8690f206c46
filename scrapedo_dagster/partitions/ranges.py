"""Many partitions as few ranges, which is how Dagster runs many of them at once."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, product

import dagster as dg


def ranges_of(
    partitions: set[str], partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> list[tuple[str, ...]]:
    """The partitions as runs of neighbours in the order of their definition, longest first.

    A partition that the definition does not have any more is in none of them. A range of two dimensions spans all
    combinations of both, as `run_request` has it: from its first combination to its last.
    """
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        ranges = _rectangles(partitions, partitions_def, instance)
    else:
        ranges = _neighbours(partitions, _from_first_to_last(partitions, partitions_def, instance))
    return sorted(ranges, key=len, reverse=True)


def _neighbours(wanted: Collection[str], keys: Iterable[str]) -> list[tuple[str, ...]]:
    """The keys that are wanted, as runs of neighbours."""
    return [tuple(run) for is_wanted, run in groupby(keys, wanted.__contains__) if is_wanted]


def _rectangles(
    partitions: set[str], partitions_def: dg.MultiPartitionsDefinition, instance: dg.DagsterInstance
) -> list[tuple[str, ...]]:
    """For each key of the first dimension the runs of the second, as one where the next key has the same run."""
    wanted: dict[str, set[str]] = {}
    for partition in partitions:
        row, _, column = partition.partition("|")
        wanted.setdefault(row, set()).add(column)
    rows, columns = (
        _from_first_to_last(keys, each.partitions_def, instance)
        for keys, each in zip((set(wanted), set().union(*wanted.values())), partitions_def.partitions_defs, strict=True)
    )
    found: list[tuple[list[str], tuple[str, ...]]] = []
    above: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        above = {run: above.get(run, []) for run in _neighbours(wanted.get(row, ()), columns)}
        for run, of_rows in above.items():
            if not of_rows:
                found.append((of_rows, run))
            of_rows.append(row)
    return [tuple("|".join(keys) for keys in product(*rectangle)) for rectangle in found]


def _from_first_to_last(
    partitions: set[str], partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> Sequence[str]:
    """The keys of the definition in their order, at least from the first to the last of these partitions."""
    if not isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    known = sorted(
        filter(partitions_def.has_partition_key, partitions), key=partitions_def.start_time_for_partition_key
    )
    return keys_between(known[0], known[-1], partitions_def, instance) if known else []


def run_request(
    job_name: str,
    partitions: Sequence[str] | tuple[None],
    *,
    run_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.RunRequest:
    """One run of a job: of a range of partitions, or of an unpartitioned asset."""
    first, last = partitions[0], partitions[-1]
    if first is None or last is None or len(partitions) == 1:
        return dg.RunRequest(run_key=run_key, job_name=job_name, partition_key=first, tags=tags)
    of_range = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(run_key=run_key, job_name=job_name, tags={**(tags or {}), **of_range})


def keys_between(
    first: str, last: str, partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> list[str]:
    """The partitions of a run of a range; none if the definition does not have both ends any more."""
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        return _combinations_between(first, last, partitions_def, instance)
    if isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):  # which need not list ten years of hours
        if not all(partitions_def.has_partition_key(key) for key in (first, last)):
            return []
        return list(partitions_def.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))
    keys = partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    return list(keys[keys.index(first) : keys.index(last) + 1]) if {first, last} <= set(keys) else []


def _combinations_between(
    first: str, last: str, partitions_def: dg.MultiPartitionsDefinition, instance: dg.DagsterInstance
) -> list[str]:
    dimensions = partitions_def.partitions_defs
    ends = [key.split("|") for key in (first, last)]
    if any(len(end) != len(dimensions) for end in ends):
        return []
    spans = [
        keys_between(of_first, of_last, each.partitions_def, instance)
        for of_first, of_last, each in zip(*ends, dimensions, strict=True)
    ]
    return ["|".join(keys) for keys in product(*spans)]


def partitions_of_run(
    run: dg.DagsterRun, partitions_def: dg.PartitionsDefinition | None, instance: dg.DagsterInstance
) -> list[str | None]:
    """What a run works on; [None] if it says nothing of partitions."""
    start, end = (run.tags.get(f"dagster/asset_partition_range_{edge}") for edge in ("start", "end"))
    if partitions_def is None:
        return [None]
    if start is None or end is None:
        return [run.tags.get("dagster/partition")]
    return [*keys_between(start, end, partitions_def, instance)]
