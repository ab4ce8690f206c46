"""API calls as generators, which the blocking and the asyncio client execute.

All decisions are made here; the clients only execute the commands (`scrapedo_dagster.api.commands`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from scrapedo_dagster.api.commands import Call, Operation, RunConcurrently, Sleep
from scrapedo_dagster.api.error_messages import call_failed, submission_uncertain
from scrapedo_dagster.api.errors import JobTimeoutError, NotAcceptableError, ScrapeDoError
from scrapedo_dagster.api.requests import JobRequest, JobsQuery
from scrapedo_dagster.api.responses import (
    CancelJobResponse,
    JobCreationResponse,
    JobDetails,
    JobResult,
    JobsListResponse,
    TaskDetails,
    UnavailableTask,
    UserInformation,
)
from scrapedo_dagster.api.retry import AttemptOutcome, Backoff, RetryPolicy, never_processed
from scrapedo_dagster.api.task_matching import match_tasks

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


class Operations:
    """API calls of one account at one base URL. Has no connection and no state."""

    def __init__(self, *, base_url: str, token: str, retry: RetryPolicy) -> None:
        self._base_url = base_url
        self._token = token
        self._retry = retry

    def create_job(self, request: JobRequest, *, retry: RetryPolicy | None = None) -> Operation[JobCreationResponse]:
        size = len(request.targets or (request.plugin.params if request.plugin else ()))
        subject = f"a job of {size} task{'s' if size != 1 else ''}"
        call = Call("POST", "/api/v1/jobs", subject, json=request.to_wire())
        return self._exchange(call, JobCreationResponse, retry)

    def get_job(self, job_id: str, *, retry: RetryPolicy | None = None) -> Operation[JobDetails]:
        return self._exchange(_about_job("GET", job_id), JobDetails, retry)

    def get_task(self, job_id: str, task_id: str) -> Operation[TaskDetails]:
        subject = f"task {task_id} of job {job_id}"
        call = Call("GET", f"/api/v1/jobs/{quote(job_id, safe='')}/{quote(task_id, safe='')}", subject, job_id)
        return self._exchange(call, TaskDetails)

    def list_jobs(self, query: JobsQuery) -> Operation[JobsListResponse]:
        call = Call("GET", "/api/v1/jobs", f"page {query.page} of the jobs", params=query.to_params())
        return self._exchange(call, JobsListResponse)

    def cancel_job(self, job_id: str) -> Operation[CancelJobResponse]:
        try:
            return (yield from self._exchange(_about_job("DELETE", job_id), CancelJobResponse))
        except NotAcceptableError as error:
            # An earlier attempt may have canceled the job, and its response been lost.
            job = yield from self.get_job(job_id)
            if job.canceled or job.status == "canceled":
                return job
            raise error

    def get_user_info(self) -> Operation[UserInformation]:
        return self._exchange(Call("GET", "/api/v1/me", "the account"), UserInformation)

    def get_server_time(self) -> Operation[datetime | None]:
        response = yield from self._send(
            Call("GET", "/api/v1/me", "the time of the service"), lambda response: response
        )
        try:
            return parsedate_to_datetime(response.headers.get("date", "")).astimezone(timezone.utc)
        except ValueError:
            return None

    def wait_for_job(
        self, job_id: str, *, timeout: float, backoff: Backoff, on_poll: Callable[[JobDetails], None] | None
    ) -> Operation[JobDetails]:
        started = time.monotonic()
        last_status: str | None = None
        problem: ScrapeDoError | None = None
        # This loop retries itself; retries within a poll could exceed the deadline.
        single_attempt = RetryPolicy(attempts=1)
        attempt = 0
        while True:
            pause = backoff.pause(attempt)
            try:
                job = yield from self.get_job(job_id, retry=single_attempt)
            except ScrapeDoError as error:
                if not error.transient:
                    raise
                # The error may concern the service and not the job: only the deadline ends the wait.
                pause = max(pause, getattr(error, "retry_after", None) or 0.0)
                problem = error
            else:
                last_status, problem = job.status, None
                if on_poll is not None:
                    on_poll(job)
                if job.is_terminal:
                    return job
            attempt += 1
            elapsed = time.monotonic() - started
            if elapsed >= timeout:
                raise JobTimeoutError(job_id, last_status=last_status, elapsed=elapsed, attempts=attempt) from problem
            yield Sleep(min(pause, timeout - elapsed))

    def fetch_tasks(
        self, job: JobDetails, targets: Sequence[str], *, task_ids: Sequence[str] = ()
    ) -> Operation[JobResult]:
        """Fetch all tasks of a finished job, in the order of the targets.

        Args:
            job: the finished job.
            targets: URLs of its targets; empty for a plugin job.
            task_ids: task ids from its submission; a failed job may no longer list them.
        """
        urls = {**dict.fromkeys(task_ids, ""), **job.task_urls}
        results = yield RunConcurrently([self.get_task(job.job_id, task_id) for task_id in urls])
        by_id = dict(zip(urls, results, strict=True))
        # The job may list no URLs for its tasks; the fetched tasks have them.
        urls |= {task_id: urls[task_id] or task.url for task_id, task in by_id.items() if isinstance(task, TaskDetails)}
        ordered = [(task_id, by_id[task_id]) for task_id in _in_order_of(targets, urls)]
        unavailable = tuple(
            UnavailableTask(task_id=task_id, url=urls[task_id], error=result)
            for task_id, result in ordered
            if isinstance(result, ScrapeDoError)
        )
        tasks = tuple(result for _, result in ordered if isinstance(result, TaskDetails))
        return JobResult(job=job, tasks=tasks, unavailable=unavailable)

    def submit_and_wait(
        self,
        request: JobRequest,
        *,
        timeout: float,
        backoff: Backoff,
        on_poll: Callable[[JobDetails], None] | None,
    ) -> Operation[JobResult]:
        created = yield from self.create_job(request)
        job = yield from self.wait_for_job(created.job_id, timeout=timeout, backoff=backoff, on_poll=on_poll)
        return (yield from self.fetch_tasks(job, request.targets or (), task_ids=created.task_ids))

    def _exchange(self, call: Call, model: type[Model], retry: RetryPolicy | None = None) -> Operation[Model]:
        return self._send(call, lambda response: _parse(model, response.content), retry)

    def _send(self, call: Call, read: Callable[[httpx.Response], T], retry: RetryPolicy | None = None) -> Operation[T]:
        retry = retry or self._retry
        attempt = 0
        while True:
            outcome: AttemptOutcome = yield call
            unreadable: ValidationError | None = None
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                try:
                    return read(outcome)
                except ValidationError as invalid:
                    unreadable = invalid
            pause = retry.pause_before_retry(outcome, idempotent=call.idempotent, attempt=attempt)
            attempt += 1
            if pause is None:
                error = call_failed(call, outcome, attempt, unreadable, base_url=self._base_url, token=self._token)
                if call.idempotent or never_processed(outcome):
                    raise error
                raise submission_uncertain(call, error)
            yield Sleep(pause)


def _parse(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":
            raise
        problem = error
    # Invalid UTF-8 or lone surrogates in a result that was paid for: replace these characters.
    try:
        lenient = json.dumps(json.loads(body.decode(errors="replace")), ensure_ascii=False)
    except (ValueError, RecursionError):
        raise problem from None
    return model.model_validate_json(lenient.encode(errors="replace"))


def _about_job(method: Literal["GET", "DELETE"], job_id: str) -> Call:
    return Call(method, f"/api/v1/jobs/{quote(job_id, safe='')}", f"job {job_id}", job_id)


def _in_order_of(targets: Sequence[str], urls: dict[str, str]) -> list[str]:
    """Return the task ids in the order of the targets, those that match no target last."""
    task_ids = list(urls)
    if not targets:
        return task_ids
    matched = [task_ids[index] for index in match_tasks(targets, list(urls.values())) if index is not None]
    return list(dict.fromkeys([*matched, *task_ids]))
