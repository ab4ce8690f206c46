"""Reads from Dagster's event log which generations were reported to it.

Only there is it known: a run may die after it has done its work and before its events are stored.
"""

from collections.abc import Iterable

import dagster as dg

from scrapedo_dagster.execution.metadata import GENERATION_KEY

_PARTITIONS_A_QUERY = 500


def reported_generations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Iterable[str | None]
) -> dict[str | None, int]:
    """Return the generation in the newest materialization of each partition that has one; 0 if it names none."""
    generations: dict[str | None, int] = {}
    keys: list[str] = []
    for partition in partitions:
        if partition is not None:
            keys.append(partition)
            continue
        for record in instance.fetch_materializations(key, limit=1).records:
            generations[None] = _generation_of(record)
    while keys:
        asked, keys = keys[:_PARTITIONS_A_QUERY], keys[_PARTITIONS_A_QUERY:]
        records_filter = dg.AssetRecordsFilter(key, asset_partitions=asked)
        records = instance.fetch_materializations(records_filter, limit=len(asked)).records
        for record in records:  # newest first
            generations.setdefault(record.partition_key, _generation_of(record))
        if len(records) == len(asked):  # several records of one partition may have left no room for another
            keys += [each for each in asked if each not in generations]
    return generations


def _generation_of(record: dg.EventLogRecord) -> int:
    materialization = record.asset_materialization
    value = materialization.metadata.get(GENERATION_KEY) if materialization else None
    return (value.value or 0) if isinstance(value, dg.IntMetadataValue) else 0
