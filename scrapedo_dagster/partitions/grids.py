"""Partitions of two dimensions as rectangles, each of which one run can have as its range."""

from itertools import product

import dagster as dg

from scrapedo_dagster.partitions.keys import keys_around, neighbors


def rectangles_of(
    partitions: set[str], partitions_def: dg.MultiPartitionsDefinition, instance: dg.DagsterInstance
) -> list[tuple[str, ...]]:
    """Group partitions into rectangles: all combinations of neighboring rows with neighboring columns.

    Dagster's own `PartitionsSubset.get_partition_key_ranges` holds one dimension constant, so that a backfill of a
    year for ten sites would be ten runs instead of one.
    """
    wanted: dict[str, set[str]] = {}
    for partition in partitions:
        row, _, column = partition.partition("|")
        wanted.setdefault(row, set()).add(column)
    rows, columns = (
        keys_around(keys, each.partitions_def, instance)
        for keys, each in zip((set(wanted), set().union(*wanted.values())), partitions_def.partitions_defs, strict=True)
    )
    rectangles: list[tuple[list[str], tuple[str, ...]]] = []
    # By the columns of each rectangle that the row above is in: its rows, which the next row may join.
    growing: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        growing = {group: growing.get(group, []) for group in neighbors(wanted.get(row, ()), columns)}
        for group, rows_of_group in growing.items():
            if not rows_of_group:
                rectangles.append((rows_of_group, group))
            rows_of_group.append(row)
    return [tuple("|".join(keys) for keys in product(*rectangle)) for rectangle in rectangles]
