"""From what a user lists to batches: who is invalid, who is a duplicate, who goes together. Decides only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scrapedo_dagster.api.requests import MAX_TARGETS, check_target

_SHOWN = 10  # invalid targets that one message lists


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


class InvalidTargetsError(ValueError):
    """Some targets cannot be scraped. Nothing was submitted.

    Attributes:
        reasons: for each invalid target its position in the list, from 0, and what is wrong with it.
    """

    def __init__(self, amount: int, reasons: dict[int, str]) -> None:
        listed = "; ".join(f"[{position}] {reason}" for position, reason in list(reasons.items())[:_SHOWN])
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        super().__init__(
            f"{len(reasons)} of {amount} targets are no URLs that Scrape.do can fetch, so nothing was submitted and "
            f"nothing charged. Correct or leave out, by position: {listed}{more}"
        )
        self.reasons = reasons


def entries_of(targets: Iterable[str | Target], on_invalid: Literal["raise", "skip"]) -> Batch:
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


def batches_of(entries: Batch, size: int = MAX_TARGETS) -> list[Batch]:
    """Batches of up to `size` different URLs, in the order of the list; at least one batch, which may be empty.

    All entries of one URL are in one batch. Rejected entries go with the last batch.
    """
    by_url: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.rejected is None:
            by_url.setdefault(entry.url, []).append(entry)
    urls = list(by_url)
    batches = [
        [entry for url in urls[first : first + size] for entry in by_url[url]]
        for first in range(0, max(len(urls), 1), size)
    ]
    batches[-1] += [entry for entry in entries if entry.rejected is not None]
    return [tuple(sorted(batch, key=lambda entry: entry.position)) for batch in batches]
