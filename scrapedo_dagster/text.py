"""Text that messages and log lines share."""

from __future__ import annotations

from collections.abc import Collection, Iterable

MAX_LISTED = 10
"""Items that one message lists, unless its caller limits it to fewer."""


def join_limited(items: Iterable[object], *, limit: int = MAX_LISTED, separator: str = ", ") -> str:
    """Join the first `limit` items, and count the others: `a, b, and 7 more`."""
    texts = [str(item) for item in items]
    if len(texts) > limit:
        texts = [*texts[:limit], f"and {len(texts) - limit} more"]
    return separator.join(texts)


def partition_label(partition: str | None) -> str:
    """Name a partition; None is the only one of an unpartitioned dataset."""
    return "unpartitioned data" if partition is None else f"partition {str(partition)!r}"


def partitions_label(partitions: Collection[str | None]) -> str:
    """Count partitions and name the first five, by key: `7 partitions ('a', 'b', ...)`."""
    if len(partitions) == 1:
        return partition_label(*partitions)
    keys = (repr(key) for key in sorted(partitions, key=str))
    return f"{len(partitions)} partitions ({join_limited(keys, limit=5)})"
