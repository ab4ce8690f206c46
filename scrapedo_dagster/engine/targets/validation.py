"""Validates the targets that a user lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from scrapedo_dagster.api.requests import check_target
from scrapedo_dagster.engine.errors import InvalidTargetsError
from scrapedo_dagster.engine.targets.target import Batch, Entry, Target


def validated_entries(targets: Iterable[str | Target], on_invalid: Literal["raise", "skip"]) -> Batch:
    """Return the targets with their positions. With `skip`, invalid ones carry the reason.

    Raises:
        TypeError: `targets` is not a list of strings or `Target`s.
        InvalidTargetsError: with `raise`, some are not http or https URLs.
    """
    if isinstance(targets, str | bytes):
        raise TypeError(f"targets must be a list of URLs and is one string: {targets!r}. Return [{targets!r}] instead.")
    try:
        iterator = iter(targets)
    except TypeError:
        raise TypeError(f"targets must be a list of URLs and is {type(targets).__name__}: return a list.") from None
    entries = tuple(_entry(position, target) for position, target in enumerate(iterator))
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
