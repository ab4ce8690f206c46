"""Price of a task, and when it is billed: https://scrape.do/documentation/credits/."""

from __future__ import annotations

from typing import Final

from scrapedo_dagster.emulator.job_body import JobBody

_BILLED_TARGET_ERRORS: Final = frozenset({400, 404, 410})


def price(request: JobBody, position: int) -> int:
    """Return the credits of the task at `position` of the job, if it is billed.

    Of the plugins only the price of google/search is documented (10 credits). All google plugins get this price, the
    others that of a target, depending on their own `super`.
    """
    if request.plugin is not None:
        if request.plugin.key.startswith("google/"):
            return 10
        return 10 if request.plugin.params[position].get("super") in (True, "true") else 1
    if request.super:
        return 10 if request.render is None else 25
    return 1 if request.render is None else 5


def is_billed(status_code: int) -> bool:
    """Return whether a response of the target is billed: 2xx, and 400, 404 and 410 of the target."""
    return 200 <= status_code < 300 or status_code in _BILLED_TARGET_ERRORS
