"""What a task costs, and when it is charged: https://scrape.do/documentation/credits/."""

from __future__ import annotations

from typing import Final

from scrapedo_dagster.emulator.validation import JobRequest

_BILLED_TARGET_ERRORS: Final = frozenset({400, 404, 410})


def price(request: JobRequest, position: int) -> int:
    """Credits of the task at `position` of the job, if it is billed.

    Only google/search is documented among the plugins (10 credits); the whole google family is priced alike,
    and the others like a target, by their own `super`.
    """
    if request.plugin is not None:
        if request.plugin.key.startswith("google/"):
            return 10
        return 10 if request.plugin.params[position].get("super") in (True, "true") else 1
    if request.super:
        return 10 if request.render is None else 25
    return 1 if request.render is None else 5


def is_billed(status_code: int) -> bool:
    """Whether an answer of the target is paid for: 2xx, and the target's own 400, 404 and 410."""
    return 200 <= status_code < 300 or status_code in _BILLED_TARGET_ERRORS
