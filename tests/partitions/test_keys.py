"""The keys of a range, and the partitions of a run."""

from __future__ import annotations

import dagster as dg
import pytest

from scrapedo_dagster.partitions.keys import keys_in_range, partitions_of_run

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-07")
SITES = dg.StaticPartitionsDefinition(["x", "y"])
BOTH = dg.MultiPartitionsDefinition({"day": DAYS, "site": SITES})


@pytest.mark.parametrize(
    ("definition", "first", "last", "keys"),
    [
        (SITES, "x", "y", ["x", "y"]),
        (DAYS, "2026-01-02", "2026-01-03", ["2026-01-02", "2026-01-03"]),
        (BOTH, "2026-01-02|y", "2026-01-03|y", ["2026-01-02|y", "2026-01-03|y"]),
        *[(SITES, "x", "gone", []), (DAYS, "2025-01-01", "2026-01-03", []), (DAYS, "gone", "2026-01-03", [])],
        *[(BOTH, "2026-01-02|y", "gone", []), (BOTH, "gone|y", "2026-01-02|y", []), (BOTH, "a|b|c", "a|b|c", [])],
    ],
)
def test_a_range_has_the_keys_between_its_ends_or_none_if_one_is_gone(
    instance: dg.DagsterInstance, definition: dg.PartitionsDefinition, first: str, last: str, keys: list[str]
) -> None:
    assert keys_in_range(dg.PartitionKeyRange(first, last), definition, instance) == keys


def test_a_run_has_the_partitions_that_its_tags_name(instance: dg.DagsterInstance) -> None:
    def partitions(definition: dg.PartitionsDefinition | None, **tags: str) -> list[str | None]:
        run = dg.DagsterRun(job_name="any", tags={f"dagster/{name}": value for name, value in tags.items()})
        return partitions_of_run(run, definition, instance)

    assert partitions(None) == partitions(SITES) == [None]
    assert partitions(SITES, partition="y") == ["y"]
    assert partitions(SITES, asset_partition_range_start="x", asset_partition_range_end="y") == ["x", "y"]
