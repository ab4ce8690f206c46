"""Partitions of two dimensions as rectangles: each in one, nothing else in it, and as few as possible."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapedo_dagster.partitions.keys import keys_in_range
from scrapedo_dagster.partitions.ranges import ranges_of

WORKDAYS = dg.TimeWindowPartitionsDefinition(
    start="2026-01-01", end="2026-03-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * *", exclusions=["0 0 * * 6,0"]
)


DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-07")
REGIONS = dg.StaticPartitionsDefinition(["us", "eu", "asia", "africa"])
SITES = dg.DynamicPartitionsDefinition(name="sites")
MULTI = {
    "days and regions": dg.MultiPartitionsDefinition({"a": DAYS, "b": REGIONS}),
    "regions and days": dg.MultiPartitionsDefinition({"a": REGIONS, "b": DAYS}),
    "sites and days": dg.MultiPartitionsDefinition({"a": SITES, "b": WORKDAYS}),
}


@pytest.mark.parametrize("kind", MULTI)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_ranges_of_two_dimensions_have_each_partition_once_and_no_other(
    kind: str, instance: dg.DagsterInstance, data: st.DataObject
) -> None:
    definition = MULTI[kind]
    instance.add_dynamic_partitions("sites", ["x", "y", "z"])
    rows, columns = (
        each.partitions_def.get_partition_keys(dynamic_partitions_store=instance)[:6]
        for each in definition.partitions_defs
    )
    keys = [f"{row}|{column}" for row in rows for column in columns]
    due = set(data.draw(st.lists(st.sampled_from(keys))))
    ranges = ranges_of({*due, "gone", f"gone|{columns[0]}", f"{rows[0]}|gone"}, definition, instance)
    assert Counter(key for each in ranges for key in each) == Counter(due)
    for each in ranges:
        assert list(each) == keys_in_range(dg.PartitionKeyRange(each[0], each[-1]), definition, instance)
    assert [len(each) for each in ranges] == sorted(map(len, ranges), reverse=True)
    runs_within_rows = sum(
        f"{row}|{column}" in due and (number == 0 or f"{row}|{columns[number - 1]}" not in due)
        for row in rows
        for number, column in enumerate(columns)
    )
    assert len(ranges) <= runs_within_rows


@pytest.mark.parametrize("kind", ["days and regions", "regions and days"])
def test_a_rectangle_is_one_range(kind: str, instance: dg.DagsterInstance) -> None:
    keys = {str(key) for key in MULTI[kind].get_partition_keys()}
    assert len(ranges_of(keys, MULTI[kind], instance)) == 1
    of_two = {key for key in keys if "us" in key or "eu" in key}
    assert len(ranges_of(of_two, MULTI[kind], instance)) == 1
    assert len(ranges_of({key for key in keys if "-03" not in key}, MULTI[kind], instance)) == 2
