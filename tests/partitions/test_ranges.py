"""Partitions as ranges: each in one range, and nothing in it that was not asked for."""

from __future__ import annotations

import random

import dagster as dg
import pytest

from scrapedo_dagster.partitions.ranges import ranges_of

HOURS = dg.HourlyPartitionsDefinition("2026-03-27-00:00", end_date="2026-03-31-00:00", timezone="Europe/Berlin")
WEEKS = dg.WeeklyPartitionsDefinition("2025-01-01", end_date="2026-01-01", hour_offset=7, day_offset=2)
WORKDAYS = dg.TimeWindowPartitionsDefinition(
    start="2026-01-01", end="2026-03-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * *", exclusions=["0 0 * * 6,0"]
)


@pytest.mark.parametrize("definition", [HOURS, WEEKS, WORKDAYS], ids=["daylight saving", "weeks", "gaps"])
def test_ranges_of_time_windows_are_those_of_their_list(
    definition: dg.TimeWindowPartitionsDefinition, instance: dg.DagsterInstance
) -> None:
    keys = definition.get_partition_keys()
    listed = dg.StaticPartitionsDefinition(keys)
    rng = random.Random(6)
    for amount in (1, 2, len(keys) // 3, len(keys) - 2, len(keys)):
        due = {*rng.sample(keys, amount), "2026-01-03", "2031-01-01-00:00", "gone"}
        assert ranges_of(due, definition, instance) == ranges_of(due, listed, instance)
    assert ranges_of({"gone"}, definition, instance) == []
