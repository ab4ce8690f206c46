"""The cursor of the sensor: read as it was written, and from the beginning if it cannot be read."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from scrapedo_dagster.execution.tick_cursor import TickCursor


@pytest.mark.parametrize("polled_at", [None, datetime(2026, 1, 1, 12, tzinfo=timezone.utc)])
def test_a_cursor_is_read_as_it_was_written(polled_at: datetime | None) -> None:
    cursor = TickCursor(7, polled_at)
    assert TickCursor.parse(cursor.serialize()) == cursor


@pytest.mark.parametrize(
    "text",
    [
        *[None, "", "garbage", "[]", "7", '"x"', "null", '{"version": 99}', '{"version": 1}', '{"polled_through": 3}'],
        '{"version": 1, "polled_through": "x", "all_polled_at": null}',
        '{"version": 1, "polled_through": 1e999, "all_polled_at": null}',
        '{"version": 1, "polled_through": 5, "all_polled_at": "yesterday"}',
        '{"version": 1, "polled_through": 5, "all_polled_at": 5}',
        '{"version": 99, "polled_through": 5, "all_polled_at": null}',
    ],
)
def test_a_cursor_that_cannot_be_read_starts_from_the_beginning(text: str | None) -> None:
    assert TickCursor.parse(text) == TickCursor()
