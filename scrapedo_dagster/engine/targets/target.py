"""A target, and an entry of a partition's list of targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Target:
    """A URL to scrape, with an optional key of yours, which becomes the column `target_key`."""

    url: str
    key: str | None = None


@dataclass(frozen=True)
class Entry:
    """One target of a partition's list.

    Attributes:
        position: its index in the list, from 0.
        url: the URL.
        key: the key, if any.
        rejected: why it is not submitted; None if it is.
    """

    position: int
    url: str
    key: str | None = None
    rejected: str | None = None


Batch: TypeAlias = tuple[Entry, ...]
"""Entries that are submitted in one job. Entries with the same URL share a batch, and one task."""
