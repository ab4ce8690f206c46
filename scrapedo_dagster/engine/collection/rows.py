"""The result of one target as a row of `tasks` and, if it has content, one of `contents`. Pure functions."""

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
    """The result of one target.

    Attributes:
        task: the columns of `tasks` that do not depend on the target's entry. The digest is added by `add_digest`.
        content: the columns of `contents`, with `text` in UTF-8. If text and content are equal, they are one object.
    """

    task: Row
    content: Row | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its content."""
        if self.content is None:
            return 0
        content, text = self.content["content"], self.content["text"]
        return len(content) + (0 if text is None or text is content else len(text))

    @property
    def failed(self) -> bool:
        """Whether the task did not succeed, or its content cannot be read."""
        return bool(self.task["status"] != "success")

    @property
    def may_be_retried(self) -> bool:
        """Whether the task failed. A result that cannot be read may have been paid for, and is not submitted again."""
        return self.task["status"] in {"error", "canceled"}


def rows_of_entries(task: Row, entries: Iterable[Entry], generation: int) -> Iterator[Row]:
    """Yield the row of `tasks` of each entry with this target. The first has the credits: it was paid once."""
    for number, entry in enumerate(entries):
        listed = {"position": entry.position, "url": entry.url, "target_key": entry.key, "generation": generation}
        yield {**task, **listed, **({"credits_used": 0} if number and task.get("credits_used") else {})}


def result_without_task(job_id: str | None, task_id: str | None, status: str, reason: str) -> Result:
    """Return the result of a target whose task the service no longer has, or never had."""
    return Result({"job_id": job_id, "task_id": task_id, "status": status, "error_message": reason})


def result_of_task(url: str, task: TaskDetails) -> Result:
    """Return the result of a fetched task, successful or not. `url` is the target as it was submitted."""
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
    """Add the digest of the content. Call it in a thread: it is slow, and needs no interpreter lock."""
    if result.content is not None:
        result.task["content_sha256"] = hashlib.sha256(result.content["content"]).hexdigest()


def _content(task: TaskDetails) -> tuple[bytes | None, str | None]:
    """Return the content, and the reason why it is missing or failed."""
    if not task.is_terminal:
        return None, f"the job ended while this task was still {task.status!r}"
    problem = None if task.is_success else task.error_message or f"the task ended as {task.status!r} without a reason"
    try:
        content = task.decoded_content()
    except ValueError as error:
        return None, str(error)
    if content is None and task.is_success:
        return None, task.error_message or "the task succeeded and has no content"
    # A failed task may have the target's error page, or an empty text.
    return (content if content or task.is_success else None), problem


def _media_type(headers: dict[str, str]) -> tuple[str | None, str | None]:
    value = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    return _parsed(value) if value else (None, None)


@lru_cache  # a site has few of them, and parsing takes longer than the rest of a row
def _parsed(content_type: str) -> tuple[str | None, str | None]:
    """Return media type and charset of a Content-Type, as the standard library's parser of headers reads them."""
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_type(), header.get_content_charset()


def _text(task: TaskDetails, content: bytes, media_type: str | None, charset: str | None) -> bytes | None:
    """Return the content as text in UTF-8, or None if it is no text or its charset is unknown."""
    if not task.base64_encoded_content:
        return content  # the service has decoded it from any charset
    if media_type is None or not (media_type.startswith("text/") or media_type.endswith(_TEXTUAL)):
        return None
    try:
        text = content.decode(charset or "utf-8").encode()
    except (UnicodeError, LookupError):
        return None
    return content if text == content else text
