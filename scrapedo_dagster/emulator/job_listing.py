"""Query parameters of `GET /jobs`, and the jobs that match them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from scrapedo_dagster.emulator.errors import ApiError
from scrapedo_dagster.emulator.faults import WireStyle
from scrapedo_dagster.emulator.state import STATUSES, Job

_SORTS: Final = ("start_time_desc", "start_time_asc")
_RFC3339_UTC: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
_ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class ListQuery:
    """Parsed query. Times are inclusive bounds of StartTime, in UTC; `page` starts at 1."""

    page_size: int = 10
    page: int = 1
    status: str | None = None
    start_from: datetime | None = None
    start_to: datetime | None = None
    sort: str = "start_time_desc"


def parse_list_query(params: Mapping[str, str]) -> ListQuery:
    """Parse query parameters. ApiError 400 names the first invalid one; unknown ones are ignored."""
    status = params.get("status")
    if status is not None and status not in STATUSES:
        raise ApiError(400, f"Invalid query: status must be one of {', '.join(STATUSES)}")
    sort = params.get("sort", "start_time_desc")
    if sort not in _SORTS:
        raise ApiError(400, f"Invalid query: sort must be {' or '.join(_SORTS)}")
    return ListQuery(
        page_size=_integer(params, "page_size", default=10, maximum=100),
        page=_integer(params, "page", default=1, maximum=None),
        status=status,
        start_from=_time(params, "start_from"),
        start_to=_time(params, "start_to"),
        sort=sort,
    )


def select(jobs: Iterable[Job], query: ListQuery, style: WireStyle) -> list[Job]:
    """Return the matching jobs of all pages, sorted. `jobs` must be in order of submission."""
    # A stable sort: jobs with the same start keep the order of their submission.
    found = sorted((job for job in jobs if _matches(job, query, style)), key=lambda job: _start_time(job, style))
    return found if query.sort == "start_time_asc" else found[::-1]


def _start_time(job: Job, style: WireStyle) -> datetime:
    """Return the start to filter and sort by: the zero time while StartTime is hidden."""
    return job.created if job.is_finished or style.times_before_end == "shown" else _ZERO_TIME


def _matches(job: Job, query: ListQuery, style: WireStyle) -> bool:
    start = _start_time(job, style)
    return (
        (query.status is None or job.status == query.status)
        and (query.start_from is None or start >= query.start_from)
        and (query.start_to is None or start <= query.start_to)
    )


def _integer(params: Mapping[str, str], name: str, *, default: int, maximum: int | None) -> int:
    text = params.get(name)
    if text is None:
        return default
    bounds = f"from 1 to {maximum}" if maximum else "from 1"
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1 or (maximum and int(text) > maximum):
        raise ApiError(400, f"Invalid query: {name} must be a whole number {bounds}")
    return int(text)


def _time(params: Mapping[str, str], name: str) -> datetime | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        if (parts := _RFC3339_UTC.fullmatch(text)) is None:
            raise ValueError
        moment = datetime.strptime(parts[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        raise ApiError(
            400, f"Invalid query: {name} must be an RFC 3339 time in UTC, such as 2026-01-31T09:30:00Z"
        ) from None
    return moment.replace(microsecond=int((parts[2] or "").ljust(6, "0")[:6]))
