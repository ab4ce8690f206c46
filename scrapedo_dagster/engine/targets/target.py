"""From what a user lists to batches: who is invalid, who is a duplicate, who goes together. Decides only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scrapedo_dagster.api.requests import check_target
from scrapedo_dagster.engine.errors import InvalidTargetsError


@dataclass(frozen=True)
class Target:
    """A URL to scrape, with a key of yours that comes out as the column `target_key`."""

    url: str
    key: str | None = None


@dataclass(frozen=True)
class Entry:
    """One target of a partition's list: its position from 0, and why it was not sent, if it was not."""

    position: int
    url: str
    key: str | None = None
    rejected: str | None = None


Batch: TypeAlias = tuple[Entry, ...]
"""Entries that go together; those with the same URL always do, and are paid once."""


def validated_entries(targets: Iterable[str | Target], on_invalid: Literal["raise", "skip"]) -> Batch:
    """The targets by position, each checked. With `skip`, invalid ones carry the reason instead of being raised.

    Raises:
        TypeError: `targets` is no list of strings or `Target`s.
        InvalidTargetsError: some are no http or https URL, by position.
    """
    if isinstance(targets, str | bytes):
        raise TypeError(f"targets must be a list of URLs and is one string: {targets!r}. Return [{targets!r}] instead.")
    try:
        listed = iter(targets)
    except TypeError:
        raise TypeError(f"targets must be a list of URLs and is {type(targets).__name__}: return a list.") from None
    entries = tuple(_entry(position, target) for position, target in enumerate(listed))
    reasons = {entry.position: entry.rejected for entry in entries if entry.rejected is not None}
    if reasons and on_invalid == "raise":
        raise InvalidTargetsError(len(entries), reasons)
    return entries


def _entry(position: int, target: str | Target) -> Entry:
    url, key = (target.url, target.key) if isinstance(target, Target) else (target, None)
    if not isinstance(url, str):
        return Entry(position, str(url), key, f"{url!r} is {type(url).__name__}, not a string")
    try:
        check_target(url)
    except ValueError as error:
        return Entry(position, url, key, str(error))
    return Entry(position, url, key)
