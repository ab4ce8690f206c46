"""Write jobs and tasks as JSON of the service, in a `WireStyle`.

Keys are PascalCase. `WireStyle.absent` defines how absent values are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal

import httpx

from scrapedo_dagster.emulator.faults import WireStyle
from scrapedo_dagster.emulator.state import Job, Task

_Kind = Literal["string", "time", "list", "map", "int"]

_GO_ABSENT: Final[dict[_Kind, Any]] = {
    "string": "",
    "time": "0001-01-01T00:00:00Z",
    "list": None,
    "map": None,
    "int": 0,
}


class ResponseWriter:
    """Writes responses in one style."""

    def __init__(self, style: WireStyle) -> None:
        self._style = style

    def created(self, job: Job) -> dict[str, Any]:
        """Return the response of `POST /jobs`."""
        return {"JobID": job.job_id, "Message": "Job created successfully", "TaskIDs": list(job.shown_task_ids)}

    def listed(self, job: Job) -> dict[str, Any]:
        """Return an entry of `GET /jobs`, without tasks and concurrency."""
        shows_start = job.is_finished or self._style.times_before_end == "shown"
        entry: dict[str, Any] = {"JobID": job.job_id, "TaskIDs": list(job.shown_task_ids), "Status": job.status}
        self._put(entry, "StartTime", "time", self._time(job.created) if shows_start else None)
        self._put(entry, "EndTime", "time", self._time(job.ended))
        return entry

    def job(self, job: Job, *, acquired: int) -> dict[str, Any]:
        """Return the response of `GET` and `DELETE /jobs/{jobID}`. `acquired` is the number of its slots."""
        return {
            **self.listed(job),
            "AcquiredConcurrency": acquired,
            "LimitConcurrency": 0,
            "Canceled": job.canceled,
            "Tasks": [
                {"TaskID": task.task_id, "URL": self._url(task), "Status": task.status}
                for task in (job.tasks[task_id] for task_id in job.shown_task_ids)
            ],
        }

    def task(self, task: Task) -> dict[str, Any]:
        """Return the response of `GET /jobs/{jobID}/{taskID}`, which is also the body of a delivery."""
        outcome = task.outcome
        shows_start = outcome is not None or self._style.times_before_end == "shown"
        body: dict[str, Any] = {
            "TaskID": task.task_id,
            "JobID": task.job.job_id,
            "URL": self._url(task),
            "Status": task.status,
        }
        self._put(body, "StartTime", "time", self._time(task.started) if shows_start else None)
        self._put(body, "EndTime", "time", self._time(task.ended))
        self._put(body, "ExpiresAt", "time", self._time(task.job.expires))
        self._put(body, "UpdateTime", "time", self._time(task.updated))
        body["Base64EncodedContent"] = outcome is not None and outcome.base64
        self._put(body, "StatusCode", "int", (outcome and outcome.status_code) or None)
        self._put(body, "ResponseHeaders", "map", self._headers(outcome.headers) if outcome else None)
        self._put(body, "Scrape.do", "map", _telemetry(task))
        self._put(body, "Content", "string", outcome.content if outcome else None)
        self._put(body, "ErrorMessage", "string", outcome.error if outcome else None)
        self._put(body, "WebhookURL", "string", task.job.request.webhook_url)
        self._put(body, "WebhookStatus", "string", task.webhook_status)
        self._put(body, "WebhookRequestTime", "time", self._time(task.webhook_time))
        body["TraceID"] = task.trace_id
        return body

    def page(self, jobs: Iterable[Job], *, total: int, size: int, number: int) -> dict[str, Any]:
        """Return the response of `GET /jobs`."""
        entries = [self.listed(job) for job in jobs]
        return {
            "Jobs": entries if entries or self._style.absent == "omit" else None,
            "TotalCount": total,
            "PageSize": size,
            "PageNumber": number,
            "TotalPages": -(-total // size),
        }

    def _put(self, body: dict[str, Any], key: str, kind: _Kind, value: Any) -> None:
        if value is None or (kind in ("list", "map") and not value):
            if self._style.absent == "omit":
                return
            value = None if self._style.absent == "null" else _GO_ABSENT[kind]
        body[key] = value

    def _time(self, moment: datetime | None) -> str | None:
        if moment is None:
            return None
        # The clock has microseconds; the last three of nine digits are invented.
        fraction = f"{moment.microsecond:06d}123"[: self._style.fraction_digits]
        return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"

    def _url(self, task: Task) -> str:
        return _normalized(task.url) if self._style.normalize_urls else task.url

    def _headers(self, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        by_name: dict[str, list[str]] = {}
        for name, value in headers:
            by_name.setdefault(name, []).append(value)
        if self._style.list_headers:
            return dict(by_name)
        return {name: ", ".join(values) for name, values in by_name.items()}


def _telemetry(task: Task) -> dict[str, str] | None:
    """Return the `Scrape.do` map of strings. `Emulator-Rendered` states that no browser was used."""
    outcome = task.outcome
    if outcome is None or outcome.status == "canceled":
        return None
    telemetry = {
        "Credits-Used": str(outcome.credits),
        "Remaining-Credits": str(outcome.remaining_credits),
    }
    if task.job.request.render is not None:
        telemetry["Emulator-Rendered"] = "false"
    return telemetry


def _normalized(url: str) -> str:
    """Return the URL with a lower-case host, without default port and fragment, with a path."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(fragment=None, raw_path=parsed.raw_path or b"/"))
