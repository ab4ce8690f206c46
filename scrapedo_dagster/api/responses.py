"""What the Async API answers, read leniently.

Known and tolerated everywhere: null or absent lists, maps, numbers and times; Go's zero time
(`0001-01-01T00:00:00Z`); up to nine fraction digits; statuses and fields nobody knows; header values that
are lists. Only an id that is missing makes an answer unreadable. All times are aware, in UTC.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, TypeAlias

import pybase64
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from scrapedo_dagster.api.errors import ScrapeDoError

TERMINAL_STATUSES = frozenset({"success", "error", "canceled"})
"""The statuses after which nothing changes. Any other, also one nobody knows, is not terminal."""

_ANY_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)

_LARGEST_NUMBER = 10**12  # no true one is near it, and sums of millions of them fit into 64 bits


def _time(value: object) -> datetime | None:
    try:
        time = _ANY_TIME.validate_python(value)
        time = time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    except (ValidationError, OverflowError):
        # Null, empty or not a time. A result that was paid for is not thrown away over its clock.
        return None
    return None if time.year == 1 else time


def _whole_number(value: object) -> int | None:
    """None for what is no number, or none that can be true."""
    try:
        number = int(float(str(value).strip()))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= _LARGEST_NUMBER else None


def _http_status(value: object) -> int | None:
    number = _whole_number(value)
    return number if number is not None and 0 < number < 1000 else None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return json.dumps(value, ensure_ascii=False)


def _optional_text(value: object) -> str | None:
    return None if value is None or value == "" else _text(value)


def _content(value: object) -> str | None:
    # An empty page is a result; only null and absent mean that there is none.
    return None if value is None else _text(value)


def _text_map(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): _text(item) for name, item in value.items()}


def _list(value: object) -> object:
    if value is None:
        return []
    return [item for item in value if item is not None] if isinstance(value, list) else value


def _from_base64(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except binascii.Error:  # in lines, perhaps; looking for white space first would take longer than decoding
        return pybase64.b64decode("".join(text.split()), validate=True)


Time = Annotated[datetime | None, BeforeValidator(_time)]
Count = Annotated[int, BeforeValidator(lambda value: _whole_number(value) or 0)]
OptionalCount = Annotated[int | None, BeforeValidator(_whole_number)]
OptionalText = Annotated[str | None, BeforeValidator(_optional_text)]
TextMap = Annotated[dict[str, str], BeforeValidator(_text_map)]
Flag = Annotated[bool, BeforeValidator(lambda value: value is True or str(value).lower() == "true")]
TaskIDs = Annotated[tuple[str, ...], BeforeValidator(_list)]


class _Response(BaseModel):
    model_config = ConfigDict(
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
    )


class _WithStatus(_Response):
    status: Annotated[str, BeforeValidator(lambda value: _text(value).lower())] = Field(default="", alias="Status")

    @property
    def is_terminal(self) -> bool:
        """Whether the status is success, error or canceled. An unknown status is not terminal."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_success(self) -> bool:
        """Whether the status is success. A job can be `success` while some of its tasks are `error`."""
        return self.status == "success"

    @property
    def is_terminal_failure(self) -> bool:
        """Whether the status is error or canceled."""
        return self.status in {"error", "canceled"}


class _WithTimes(_WithStatus):
    start_time: Time = Field(default=None, alias="StartTime")
    end_time: Time = Field(default=None, alias="EndTime")

    @property
    def duration(self) -> timedelta | None:
        """Time from start to end, or None before both are known."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time


class JobCreationResponse(_Response):
    """The answer to POST /jobs: the new job and its tasks.

    `task_ids[i]` belonging to `targets[i]` is not promised; match by URL
    (`scrapedo_dagster.api.matching.match_tasks`).
    """

    job_id: str = Field(alias="JobID", min_length=1)
    task_ids: TaskIDs = Field(default=(), alias="TaskIDs")
    message: OptionalText = Field(default=None, alias="Message")


class UndetailedTaskResponse(_WithStatus):
    """One task in the listing of its job: id, URL as the service echoes it, status."""

    task_id: str = Field(alias="TaskID", min_length=1)
    url: Annotated[str, BeforeValidator(_text)] = Field(default="", alias="URL")


class JobDetails(_WithTimes):
    """A job. Listings omit `acquired_concurrency`, `limit_concurrency`, `canceled` and `tasks`: see the defaults.

    `limit_concurrency` 0 means no ceiling of its own.
    """

    job_id: str = Field(alias="JobID", min_length=1)
    task_ids: TaskIDs = Field(default=(), alias="TaskIDs")
    acquired_concurrency: Count = Field(default=0, alias="AcquiredConcurrency")
    limit_concurrency: Count = Field(default=0, alias="LimitConcurrency")
    canceled: Flag = Field(default=False, alias="Canceled")
    tasks: Annotated[tuple[UndetailedTaskResponse, ...], BeforeValidator(_list)] = Field(default=(), alias="Tasks")

    @property
    def task_urls(self) -> dict[str, str]:
        """Every task's id with its URL as the service echoes it, or with an empty text where it tells only the id."""
        urls = {task.task_id: task.url for task in self.tasks}
        return {task_id: urls.get(task_id, "") for task_id in (*self.task_ids, *urls)}

    def raise_for_status(self) -> None:
        """Do nothing unless the job ended badly.

        Raises:
            JobFailedError: its status is error.
            JobCanceledError: its status is canceled.
        """
        if self.status == "error":
            raise JobFailedError(self)
        if self.status == "canceled":
            raise JobCanceledError(self)


CancelJobResponse: TypeAlias = JobDetails
"""The answer to DELETE /jobs/{jobID}: the job with `canceled` true. Its status may lag behind."""


class TaskDetails(_WithTimes):
    """One task with its result, as GET /jobs/{jobID}/{taskID} answers and as webhooks deliver it.

    `status` is the task's own, `status_code` the target's: `success` with 404 is normal, and is billed.
    """

    task_id: str = Field(alias="TaskID", min_length=1)
    job_id: str = Field(alias="JobID", min_length=1)
    url: Annotated[str, BeforeValidator(_text)] = Field(default="", alias="URL")
    expires_at: Time = Field(default=None, alias="ExpiresAt")
    update_time: Time = Field(default=None, alias="UpdateTime")
    base64_encoded_content: Flag = Field(default=False, alias="Base64EncodedContent")
    status_code: Annotated[int | None, BeforeValidator(_http_status)] = Field(default=None, alias="StatusCode")
    response_headers: TextMap = Field(default_factory=dict, alias="ResponseHeaders")
    scrape_do_metadata: TextMap = Field(default_factory=dict, alias="Scrape.do")
    content: Annotated[str | None, BeforeValidator(_content)] = Field(default=None, alias="Content", repr=False)
    error_message: OptionalText = Field(default=None, alias="ErrorMessage")
    webhook_url: OptionalText = Field(default=None, alias="WebhookURL")
    webhook_status: OptionalText = Field(default=None, alias="WebhookStatus")
    webhook_request_time: Time = Field(default=None, alias="WebhookRequestTime")
    trace_id: OptionalText = Field(default=None, alias="TraceID")

    @property
    def is_expired(self) -> bool | None:
        """Whether the content is past `expires_at`; None where the service gave no expiry."""
        return None if self.expires_at is None else self.expires_at < datetime.now(timezone.utc)

    @property
    def credits_used(self) -> int | None:
        """Credits this task cost, or None where the service did not say."""
        return _whole_number(self.scrape_do_metadata.get("Credits-Used"))

    @property
    def remaining_credits(self) -> int | None:
        """Credits left on the account after this task, or None where the service did not say."""
        return _whole_number(self.scrape_do_metadata.get("Remaining-Credits"))

    def decoded_content(self) -> bytes | None:
        """The result's bytes, or None where there is none.

        Raises:
            ValueError: `base64_encoded_content` is set and the content is not standard base64.
        """
        if self.content is None:
            return None
        if not self.base64_encoded_content:
            return self.content.encode()
        try:
            return _from_base64(self.content)
        except ValueError as error:
            raise ValueError(
                f"The content of task {self.task_id} of job {self.job_id} ({self.url}) is marked as base64 "
                f"and is not: {error}."
            ) from None

    def raise_for_status(self) -> None:
        """Do nothing unless the task ended badly.

        Raises:
            TaskFailedError: its status is error.
            TaskCanceledError: its status is canceled.
        """
        if self.status == "error":
            raise TaskFailedError(self)
        if self.status == "canceled":
            raise TaskCanceledError(self)


WebhookPayload: TypeAlias = TaskDetails
"""What the service POSTs to a webhook, once a task: shaped like GET /jobs/{jobID}/{taskID}."""


class UserInformation(_Response):
    """The account, as GET /me answers.

    `available_credits` is read from the live spelling `AvaliableCredits` and from the right one; None where
    neither came, which is not the same as no credits.
    """

    total_concurrency: Count = Field(default=0, alias="TotalConcurrency")
    free_concurrency: Count = Field(default=0, alias="FreeConcurrency")
    active_jobs: Count = Field(default=0, alias="ActiveJobs")
    available_credits: OptionalCount = Field(
        default=None,
        validation_alias=AliasChoices("AvaliableCredits", "AvailableCredits", "available_credits"),
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        # Else a null under one spelling would hide the number under the other.
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class JobsListResponse(_Response):
    """One page of GET /jobs."""

    jobs: Annotated[tuple[JobDetails, ...], BeforeValidator(_list)] = Field(default=(), alias="Jobs")
    total_count: Count = Field(default=0, alias="TotalCount")
    page_size: Count = Field(default=0, alias="PageSize")
    page_number: Count = Field(default=0, alias="PageNumber")
    total_pages: Count = Field(default=0, alias="TotalPages")


@dataclass(frozen=True)
class UnavailableTask:
    """A task of a finished job whose result could not be fetched, and why."""

    task_id: str
    url: str
    error: ScrapeDoError


@dataclass(frozen=True)
class JobResult:
    """A finished job with its tasks, as `submit_and_wait` returns it.

    Attributes:
        job: the job in its terminal status, which may be error or canceled.
        tasks: every task that could be fetched, in the order of the targets.
        unavailable: the others (404, 410, unreadable), each with its error.
    """

    job: JobDetails
    tasks: tuple[TaskDetails, ...] = ()
    unavailable: tuple[UnavailableTask, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether the job and every one of its tasks succeeded and could be fetched."""
        return self.job.is_success and not self.unavailable and all(task.is_success for task in self.tasks)

    def raise_for_status(self) -> None:
        """Raise the first thing that went wrong: the job's, then an unavailable task's, then a task's own.

        Raises:
            JobFailedError, JobCanceledError, TaskFailedError, TaskCanceledError: what ended badly.
            ScrapeDoError: why a task could not be fetched.
        """
        self.job.raise_for_status()
        for unavailable in self.unavailable:
            raise unavailable.error
        for task in self.tasks:
            task.raise_for_status()


class JobFailedError(ScrapeDoError):
    """The job ended as `error`. Its finished tasks may still hold content that was paid for.

    Attributes:
        job: the job as it was seen last.
    """

    def __init__(self, job: JobDetails) -> None:
        super().__init__(
            f"Job {job.job_id} ended with status 'error'. Its finished tasks may still hold results: "
            "fetch its tasks one by one before you submit it again.",
            job_id=job.job_id,
        )
        self.job = job


class JobCanceledError(ScrapeDoError):
    """The job ended as `canceled`.

    Attributes:
        job: the job as it was seen last.
    """

    def __init__(self, job: JobDetails) -> None:
        super().__init__(
            f"Job {job.job_id} was canceled. Tasks that had finished before keep their results; "
            "submit the others again if you still want them.",
            job_id=job.job_id,
        )
        self.job = job


class TaskFailedError(ScrapeDoError):
    """The task ended as `error`.

    Attributes:
        task: the task as it was seen last.
    """

    def __init__(self, task: TaskDetails) -> None:
        super().__init__(
            f"Task {task.task_id} of job {task.job_id} for {task.url} ended with status 'error': "
            f"{task.error_message or 'the service gave no reason'}. Submit this target again if you still want it.",
            job_id=task.job_id,
        )
        self.task = task


class TaskCanceledError(ScrapeDoError):
    """The task ended as `canceled`.

    Attributes:
        task: the task as it was seen last.
    """

    def __init__(self, task: TaskDetails) -> None:
        super().__init__(
            f"Task {task.task_id} of job {task.job_id} for {task.url} was canceled. "
            "Submit this target again if you still want it.",
            job_id=task.job_id,
        )
        self.task = task
