"""What one target came to, as a row of `tasks` and, where there is content, one of `contents`. Decides only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from typing import Any

from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.engine.targets.target import Entry

Row = dict[str, Any]

_TEXTUAL = ("json", "xml", "javascript", "ecmascript", "x-www-form-urlencoded", "yaml")


@dataclass(frozen=True)
class Result:
    """What one target came to.

    `task` has the columns of `tasks` that do not depend on the target's place, but for the digest, and `content` those
    of `contents`, `text` in UTF-8: where it is the content, both are one object.
    """

    task: Row
    content: Row | None = None

    @property
    def nbytes(self) -> int:
        """Of its content."""
        if self.content is None:
            return 0
        content, text = self.content["content"], self.content["text"]
        return len(content) + (0 if text is None or text is content else len(text))

    @property
    def failed(self) -> bool:
        """Whether it is not what was wanted."""
        return bool(self.task["status"] != "success")

    @property
    def may_be_retried(self) -> bool:
        """Whether its task has ended badly. What cannot be read may have been paid for, and is not submitted again."""
        return self.task["status"] in {"error", "canceled"}


def placed(task: Row, entries: Iterable[Entry], generation: int) -> Iterator[Row]:
    """The rows of `tasks` for the entries with the target of a result. It was paid once: the first has the credits."""
    for number, entry in enumerate(entries):
        place = {"position": entry.position, "url": entry.url, "target_key": entry.key, "generation": generation}
        yield {**task, **place, **({"credits_used": 0} if number and task.get("credits_used") else {})}


def without_result(job_id: str | None, task_id: str | None, status: str, reason: str) -> Result:
    """Of a target whose result the service no longer has, or never made."""
    return Result({"job_id": job_id, "task_id": task_id, "status": status, "error_message": reason})


def with_result(url: str, task: TaskDetails) -> Result:
    """Of a target whose task could be fetched, also if it failed. `url` is the target as it was submitted."""
    media_type, charset = _media_type(task.response_headers)
    content, problem = _content(task)
    described = {"task_id": task.task_id, "status_code": task.status_code, "content_type": media_type}
    row = {
        **described,
        "job_id": task.job_id,
        "status": task.status or "unknown",
        "start_time": task.start_time,
        "end_time": task.end_time,
        "update_time": task.update_time,
        "duration_ms": None if task.duration is None else round(task.duration.total_seconds() * 1000),
        "charset": charset,
        "content_length": None if content is None else len(content),
        "credits_used": task.credits_used,
        "remaining_credits": task.remaining_credits,
        "response_headers": list(task.response_headers.items()),
        "error_message": problem,
        "expires_at": task.expires_at,
        "trace_id": task.trace_id,
    }
    if content is None:
        return Result(row)
    text = _text(task, content, media_type, charset)
    return Result(row, {**described, "url": url, "content": content, "text": text})


def add_digest(result: Result) -> None:
    """Complete the row: this takes a while, and needs no interpreter lock, so that it is done in a thread."""
    if result.content is not None:
        result.task["content_sha256"] = hashlib.sha256(result.content["content"]).hexdigest()


def _content(task: TaskDetails) -> tuple[bytes | None, str | None]:
    """The result's bytes, and what is wrong with it."""
    if not task.is_terminal:
        return None, f"the job ended while this task was still {task.status!r}"
    problem = None if task.is_success else task.error_message or f"the task ended as {task.status!r} without a reason"
    try:
        content = task.decoded_content()
    except ValueError as error:
        return None, str(error)
    if content is None and task.is_success:
        return None, task.error_message or "the task succeeded and has no content"
    # A failed task may come with the target's error page, or with an empty text that says nothing.
    return (content if content or task.is_success else None), problem


def _media_type(headers: dict[str, str]) -> tuple[str | None, str | None]:
    value = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    return _parsed(value) if value else (None, None)


@lru_cache  # a site has few, and parsing takes longer than all else of a row
def _parsed(content_type: str) -> tuple[str | None, str | None]:
    """Media type and charset from Content-Type, as the standard library's parser of such headers reads them."""
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_type(), header.get_content_charset()


def _text(task: TaskDetails, content: bytes, media_type: str | None, charset: str | None) -> bytes | None:
    """The content as text in UTF-8, or None where it is none or its charset is not known."""
    if not task.base64_encoded_content:
        return content  # the service has decoded it, whatever the charset was
    if media_type is None or not (media_type.startswith("text/") or media_type.endswith(_TEXTUAL)):
        return None
    try:
        text = content.decode(charset or "utf-8").encode()
    except (UnicodeError, LookupError):
        return None
    return content if text == content else text
