"""Response models of the Async API. They read leniently; all times are timezone-aware, in UTC.

Accepted everywhere: null or absent lists, maps, numbers and times; Go's zero time (`0001-01-01T00:00:00Z`); up to nine
fraction digits; unknown statuses and fields; header values that are lists. A response is unreadable only if an id is
missing.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, TypeAlias

import pybase64
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.response_fields import (
    AbsentIsEmpty,
    Content,
    Count,
    Flag,
    HTTPStatus,
    OptionalCount,
    OptionalText,
    Status,
    Text,
    TextMap,
    Time,
    whole_number,
)

TERMINAL_STATUSES = frozenset({"success", "error", "canceled"})
"""Statuses that never change again. All others are not terminal, unknown ones included."""


class _Response(BaseModel):
    model_config = ConfigDict(
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
    )


class _WithStatus(_Response):
    status: Status = Field(default="", alias="Status")

    @property
    def is_terminal(self) -> bool:
        """Whether the status is `success`, `error` or `canceled`."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_success(self) -> bool:
        """Whether the status is `success`. A job can be `success` while some of its tasks are `error`."""
        return self.status == "success"

    @property
    def is_terminal_failure(self) -> bool:
        """Whether the status is `error` or `canceled`."""
        return self.status in {"error", "canceled"}


class _WithTimes(_WithStatus):
    start_time: Time = Field(default=None, alias="StartTime")
    end_time: Time = Field(default=None, alias="EndTime")

    @property
    def duration(self) -> timedelta | None:
        """Time from start to end, or None unless both are known."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time


class JobCreationResponse(_Response):
    """Response of POST /jobs: the new job and its tasks.

    The order of `task_ids` is not guaranteed to be the order of the targets: match tasks by URL
    (`scrapedo_dagster.api.task_matching.match_tasks`).
    """

    job_id: str = Field(alias="JobID", min_length=1)
    task_ids: Annotated[tuple[str, ...], AbsentIsEmpty] = Field(default=(), alias="TaskIDs")
    message: OptionalText = Field(default=None, alias="Message")


class UndetailedTaskResponse(_WithStatus):
    """A task within `JobDetails`: its id, its URL as the service reports it, its status."""

    task_id: str = Field(alias="TaskID", min_length=1)
    url: Text = Field(default="", alias="URL")


class JobDetails(_WithTimes):
    """A job. Listings omit `acquired_concurrency`, `limit_concurrency`, `canceled` and `tasks`: these have defaults.

    `limit_concurrency` is 0 if the job has no limit of its own.
    """

    job_id: str = Field(alias="JobID", min_length=1)
    task_ids: Annotated[tuple[str, ...], AbsentIsEmpty] = Field(default=(), alias="TaskIDs")
    acquired_concurrency: Count = Field(default=0, alias="AcquiredConcurrency")
    limit_concurrency: Count = Field(default=0, alias="LimitConcurrency")
    canceled: Flag = Field(default=False, alias="Canceled")
    tasks: Annotated[tuple[UndetailedTaskResponse, ...], AbsentIsEmpty] = Field(default=(), alias="Tasks")

    @property
    def task_urls(self) -> dict[str, str]:
        """URL of each task by task id, as the service reports it; empty where it reports only the id."""
        urls = {task.task_id: task.url for task in self.tasks}
        return {task_id: urls.get(task_id, "") for task_id in (*self.task_ids, *urls)}

    def raise_for_status(self) -> None:
        """Raise an error if the job failed or was canceled.

        Raises:
            JobFailedError: the status is `error`.
            JobCanceledError: the status is `canceled`.
        """
        if self.status == "error":
            raise JobFailedError(self)
        if self.status == "canceled":
            raise JobCanceledError(self)


CancelJobResponse: TypeAlias = JobDetails
"""Response of DELETE /jobs/{jobID}: the job, with `canceled` true. Its status may lag behind."""


class TaskDetails(_WithTimes):
    """A task with its result: the response of GET /jobs/{jobID}/{taskID}, and the body of a webhook delivery.

    `status` is the status of the task, `status_code` the HTTP status of the target. A task with `success` and 404 is
    normal, and is billed.
    """

    task_id: str = Field(alias="TaskID", min_length=1)
    job_id: str = Field(alias="JobID", min_length=1)
    url: Text = Field(default="", alias="URL")
    expires_at: Time = Field(default=None, alias="ExpiresAt")
    update_time: Time = Field(default=None, alias="UpdateTime")
    base64_encoded_content: Flag = Field(default=False, alias="Base64EncodedContent")
    status_code: HTTPStatus = Field(default=None, alias="StatusCode")
    response_headers: TextMap = Field(default_factory=dict, alias="ResponseHeaders")
    scrape_do_metadata: TextMap = Field(default_factory=dict, alias="Scrape.do")
    content: Content = Field(default=None, alias="Content", repr=False)
    error_message: OptionalText = Field(default=None, alias="ErrorMessage")
    webhook_url: OptionalText = Field(default=None, alias="WebhookURL")
    webhook_status: OptionalText = Field(default=None, alias="WebhookStatus")
    webhook_request_time: Time = Field(default=None, alias="WebhookRequestTime")
    trace_id: OptionalText = Field(default=None, alias="TraceID")

    @property
    def is_expired(self) -> bool | None:
        """Whether `expires_at` has passed; None if the service sent no expiry."""
        return None if self.expires_at is None else self.expires_at < datetime.now(timezone.utc)

    @property
    def credits_used(self) -> int | None:
        """Credits charged for this task, or None if the service did not report them."""
        return whole_number(self.scrape_do_metadata.get("Credits-Used"))

    @property
    def remaining_credits(self) -> int | None:
        """Credits left on the account after this task, or None if the service did not report them."""
        return whole_number(self.scrape_do_metadata.get("Remaining-Credits"))

    def decoded_content(self) -> bytes | None:
        """Return the content as bytes, or None if there is none.

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
                f"Task {self.task_id} of job {self.job_id} ({self.url}): its content is marked as base64 but cannot be "
                f"decoded: {error}."
            ) from None

    def raise_for_status(self) -> None:
        """Raise an error if the task failed or was canceled.

        Raises:
            TaskFailedError: the status is `error`.
            TaskCanceledError: the status is `canceled`.
        """
        if self.status == "error":
            raise TaskFailedError(self)
        if self.status == "canceled":
            raise TaskCanceledError(self)


WebhookPayload: TypeAlias = TaskDetails
"""Body of a webhook delivery, sent once for each task: the same fields as GET /jobs/{jobID}/{taskID}."""


class UserInformation(_Response):
    """Response of GET /me: concurrency, active jobs and credits of the account.

    `available_credits` is read from `AvaliableCredits` (sic), which the service sends, or from the correct spelling.
    None means that neither was sent; it does not mean that no credits are left.
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
        # A null under one spelling must not hide the number under the other.
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class JobsListResponse(_Response):
    """Response of GET /jobs: one page of jobs."""

    jobs: Annotated[tuple[JobDetails, ...], AbsentIsEmpty] = Field(default=(), alias="Jobs")
    total_count: Count = Field(default=0, alias="TotalCount")
    page_size: Count = Field(default=0, alias="PageSize")
    page_number: Count = Field(default=0, alias="PageNumber")
    total_pages: Count = Field(default=0, alias="TotalPages")


@dataclass(frozen=True)
class UnavailableTask:
    """A task of a finished job whose result could not be fetched, with the error."""

    task_id: str
    url: str
    error: ScrapeDoError


@dataclass(frozen=True)
class JobResult:
    """A finished job with its tasks: the result of `submit_and_wait`.

    Attributes:
        job: the job, in any terminal status.
        tasks: the tasks that could be fetched, in the order of the targets.
        unavailable: the other tasks (404, 410, unreadable), each with its error.
    """

    job: JobDetails
    tasks: tuple[TaskDetails, ...] = ()
    unavailable: tuple[UnavailableTask, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether the job and all of its tasks succeeded and could be fetched."""
        return self.job.is_success and not self.unavailable and all(task.is_success for task in self.tasks)

    def raise_for_status(self) -> None:
        """Raise the first error: of the job, then of unavailable tasks, then of failed or canceled tasks.

        Raises:
            JobFailedError, JobCanceledError: the job failed or was canceled.
            ScrapeDoError: a task could not be fetched.
            TaskFailedError, TaskCanceledError: a task failed or was canceled.
        """
        self.job.raise_for_status()
        for unavailable in self.unavailable:
            raise unavailable.error
        for task in self.tasks:
            task.raise_for_status()


class JobFailedError(ScrapeDoError):
    """The job ended with status `error`. Its finished tasks may still have content that was paid for.

    Attributes:
        job: the job in its last known state.
    """

    def __init__(self, job: JobDetails) -> None:
        super().__init__(
            f"Job {job.job_id} ended with status 'error'. Its finished tasks may still have results: "
            "fetch its tasks before you submit the targets again.",
            job_id=job.job_id,
        )
        self.job = job


class JobCanceledError(ScrapeDoError):
    """The job ended with status `canceled`.

    Attributes:
        job: the job in its last known state.
    """

    def __init__(self, job: JobDetails) -> None:
        super().__init__(
            f"Job {job.job_id} was canceled. Its finished tasks keep their results; "
            "submit the other targets again if you still need them.",
            job_id=job.job_id,
        )
        self.job = job


class TaskFailedError(ScrapeDoError):
    """The task ended with status `error`.

    Attributes:
        task: the task in its last known state.
    """

    def __init__(self, task: TaskDetails) -> None:
        super().__init__(
            f"Task {task.task_id} of job {task.job_id} for {task.url} ended with status 'error': "
            f"{task.error_message or 'the service gave no reason'}. Submit this target again if you still need it.",
            job_id=task.job_id,
        )
        self.task = task


class TaskCanceledError(ScrapeDoError):
    """The task ended with status `canceled`.

    Attributes:
        task: the task in its last known state.
    """

    def __init__(self, task: TaskDetails) -> None:
        super().__init__(
            f"Task {task.task_id} of job {task.job_id} for {task.url} was canceled. "
            "Submit this target again if you still need it.",
            job_id=task.job_id,
        )
        self.task = task


def _from_base64(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except binascii.Error:  # perhaps split into lines; searching for white space first takes longer than decoding
        return pybase64.b64decode("".join(text.split()), validate=True)
