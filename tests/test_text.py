"""Text that messages and log lines share."""

from __future__ import annotations

from scrapedo_dagster.text import join_limited, partitions_label


def test_the_first_items_are_listed_and_the_others_counted() -> None:
    assert join_limited("abc") == "a, b, c"
    assert join_limited(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more"
    assert join_limited("abc", limit=2, separator="; ") == "a; b; and 1 more"


def test_partitions_are_counted_and_the_first_are_named() -> None:
    assert partitions_label([None]) == "unpartitioned data"
    assert partitions_label(["a"]) == "partition 'a'"
    assert partitions_label("gfedcba") == "7 partitions ('a', 'b', 'c', 'd', 'e', and 2 more)"
