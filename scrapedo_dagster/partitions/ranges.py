"""Many partitions as few ranges: Dagster runs a range of partitions as one run."""

from collections.abc import Mapping, Sequence

import dagster as dg

from scrapedo_dagster.partitions.grids import rectangles_of
from scrapedo_dagster.partitions.keys import keys_around, neighbors


def ranges_of(
    partitions: set[str], partitions_def: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> list[tuple[str, ...]]:
    """Group partitions into ranges, longest first. Leaves out those that the definition no longer has.

    A range of two dimensions has all combinations of both, from its first key to its last.
    """
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        ranges = rectangles_of(partitions, partitions_def, instance)
    else:
        ranges = neighbors(partitions, keys_around(partitions, partitions_def, instance))
    return sorted(ranges, key=len, reverse=True)


def run_request(
    job_name: str,
    partitions: Sequence[str] | tuple[None],
    *,
    run_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.RunRequest:
    """Request one run of a job, for a range of partitions or for an unpartitioned asset."""
    first, last = partitions[0], partitions[-1]
    if first is None or last is None or len(partitions) == 1:
        return dg.RunRequest(run_key=run_key, job_name=job_name, partition_key=first, tags=tags)
    range_tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(run_key=run_key, job_name=job_name, tags={**(tags or {}), **range_tags})
