"""Clients of the Async API: the blocking `ScrapeDoAsyncAPIClient` and the asyncio `AsyncScrapeDoAsyncAPIClient`.

"Async API" is Scrape.do's name for the service that runs jobs; it is unrelated to asyncio. Both clients execute the
operations of `scrapedo_dagster.api.operations` and have the same methods, parameters and errors.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import httpx
from typing_extensions import Self

from scrapedo_dagster._version import __version__
from scrapedo_dagster.api.adaptive_concurrency import AdaptiveConcurrency
from scrapedo_dagster.api.commands import Call, Operation, Sleep
from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.headers import Admit
from scrapedo_dagster.api.job_listing import JobListing
from scrapedo_dagster.api.operations import Operations
from scrapedo_dagster.api.requests import DEFAULT_BASE_URL, JobRequest, JobsQuery, check_target
from scrapedo_dagster.api.responses import (
    CancelJobResponse,
    JobCreationResponse,
    JobDetails,
    JobResult,
    JobsListResponse,
    TaskDetails,
    UserInformation,
)
from scrapedo_dagster.api.retry import Backoff, RetryPolicy
from scrapedo_dagster.api.transport import (
    DEFAULT_TIMEOUT,
    AsyncTransport,
    HttpxTransport,
    async_transport,
    connection_limits,
)

T = TypeVar("T")
OnPoll = Callable[[JobDetails], None]

TOKEN_VARIABLE = "SCRAPE_DO_API_KEY"  # noqa: S105 - name of the variable
WAIT_TIMEOUT = timedelta(hours=1)
WAIT_BACKOFF = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
MAX_CONCURRENCY = 64


class _Client:
    """Common base of both clients. Connects on the first call."""

    _build_transport: ClassVar[Callable[..., Any]]
    _transport: Any

    def __init__(
        self,
        api_token: str | None = None,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        limits: httpx.Limits | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Create a client of one account.

        Args:
            api_token: Scrape.do API token; by default the environment variable SCRAPE_DO_API_KEY.
            base_url: URL of the service, or of an emulator.
            timeout: timeout of each request in seconds, or an `httpx.Timeout`.
            retry: how requests are retried that are safe to repeat.
            limits: maximum number of connections and of idle connections; both default to `max_concurrency`.
            max_concurrency: how many tasks are fetched at once, at least 1. The asyncio client fetches fewer while the
                service responds with 429 or too slowly.
            transport: httpx transport to use instead; sync or async, as the client is.

        Raises:
            ValueError: the token is missing or invalid, the base URL is invalid, or `max_concurrency` is below 1.
        """
        if max_concurrency < 1:
            # Without this check the error would appear only after a job was paid for.
            raise ValueError(f"max_concurrency={max_concurrency}: must be at least 1")
        token = _check_token(api_token if api_token is not None else os.environ.get(TOKEN_VARIABLE))
        self.base_url = _check_base_url(base_url)
        self.max_concurrency = max_concurrency
        self._operations = Operations(base_url=self.base_url, token=token, retry=retry or RetryPolicy())
        self._transport = self._build_transport(
            base_url=self.base_url,
            token=token,
            timeout=timeout,
            limits=limits or connection_limits(max_concurrency),
            transport=transport,
            user_agent=f"scrapedo-dagster/{__version__}",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"


class ScrapeDoAsyncAPIClient(_Client):
    """Blocking client. Safe to share between threads. Close it, or use it in a `with` statement.

    ```python
    with ScrapeDoAsyncAPIClient() as client:  # the token is read from SCRAPE_DO_API_KEY
        result = client.submit_and_wait(JobRequest(targets=["https://example.com"]))
    ```
    """

    _build_transport = HttpxTransport
    _transport: HttpxTransport

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def create_job(self, request: JobRequest, *, retry: RetryPolicy | None = None) -> JobCreationResponse:
        """Submit a job, which costs credits. It is resent only if it provably did not arrive.

        Args:
            request: the job.
            retry: retry policy; by default that of the client.

        Raises:
            SubmissionUncertainError: the response is lost; the job may exist. List the jobs to find out.
            APIConnectionError, RateLimitError: the job was not submitted, even after retries.
            APIStatusError: the service rejected the job; see its subclasses.
        """
        return self._run(self._operations.create_job(request, retry=retry))

    def get_job(self, job_id: str) -> JobDetails:
        """Return a job with the ids, URLs and statuses of its tasks.

        Raises:
            NotFoundError: the account has no such job, or its retention of three days is over.
            ScrapeDoError: other failures; see `scrapedo_dagster.api.errors`.
        """
        return self._run(self._operations.get_job(job_id))

    def get_task(self, job_id: str, task_id: str) -> TaskDetails:
        """Return a task with its result. An unfinished task has a status that is not terminal, and no content.

        Raises:
            NotFoundError: no such task, or its retention of three days is over.
            GoneError: the content is no longer available.
            ScrapeDoError: other failures; see `scrapedo_dagster.api.errors`.
        """
        return self._run(self._operations.get_task(job_id, task_id))

    def list_jobs(self, query: JobsQuery | None = None) -> JobsListResponse:
        """Return one page of the jobs of the account, by default the first 100."""
        return self._run(self._operations.list_jobs(query or JobsQuery()))

    def iter_jobs(self, query: JobsQuery | None = None) -> Iterator[JobDetails]:
        """Yield all jobs that match the query, from all pages, each once.

        Raises:
            IncompleteListingError: the listing ended before it returned all jobs that it announced.
        """
        listing = JobListing(query or JobsQuery())
        while not listing.done:
            yield from listing.accept(self.list_jobs(listing.query))

    def cancel_job(self, job_id: str) -> CancelJobResponse:
        """Cancel a job. Finished tasks keep their results. Canceling a canceled job is not an error.

        Raises:
            NotAcceptableError: the job has finished.
            NotFoundError: no such job.
        """
        return self._run(self._operations.cancel_job(job_id))

    def get_user_info(self) -> UserInformation:
        """Return concurrency, active jobs and credits of the account."""
        return self._run(self._operations.get_user_info())

    def get_server_time(self) -> datetime | None:
        """Return the time of the service in seconds precision, from the Date header of GET /me; None without one."""
        return self._run(self._operations.get_server_time())

    def wait_for_job(
        self,
        job_id: str,
        *,
        timeout: timedelta | float = WAIT_TIMEOUT,
        backoff: Backoff = WAIT_BACKOFF,
        on_poll: OnPoll | None = None,
    ) -> JobDetails:
        """Poll until the job is success, error or canceled, and return it.

        Transient errors of the service do not end the wait.

        Args:
            job_id: id of the job.
            timeout: how long to wait, as a timedelta or in seconds. A poll in progress at the deadline is completed;
                the job itself is not canceled.
            backoff: pauses between polls.
            on_poll: callback that receives the job after each successful poll.

        Raises:
            JobTimeoutError: the job has not ended within `timeout`. The job continues.
            AuthenticationError, NotFoundError: the job cannot be polled.
        """
        wait = self._operations.wait_for_job(job_id, timeout=_seconds(timeout), backoff=backoff, on_poll=on_poll)
        return self._run(wait)

    def submit_and_wait(
        self,
        request: JobRequest,
        *,
        timeout: timedelta | float = WAIT_TIMEOUT,
        backoff: Backoff = WAIT_BACKOFF,
        on_poll: OnPoll | None = None,
    ) -> JobResult:
        """Submit a job, wait until it ends and fetch its tasks concurrently.

        The result has every task that could be fetched, in the order of the targets, even if the job ended with
        `error` or `canceled`: call `raise_for_status()` on it to raise an error. Parameters and errors are those of
        `create_job` and `wait_for_job`.
        """
        operation = self._operations.submit_and_wait(
            request, timeout=_seconds(timeout), backoff=backoff, on_poll=on_poll
        )
        return self._run(operation)

    def _run(self, operation: Operation[T]) -> T:
        reply: Any = None
        while True:
            try:
                command = operation.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(command, Call):
                reply = self._transport.send(command)
            elif isinstance(command, Sleep):
                time.sleep(command.seconds)
            else:
                reply = self._run_concurrently(command.operations)

    def _run_concurrently(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        pool = ThreadPoolExecutor(max_workers=self.max_concurrency, thread_name_prefix="scrapedo")
        try:
            return list(pool.map(self._run_or_error, operations))
        finally:
            # Ctrl-C must not wait for hundreds of queued operations.
            pool.shutdown(cancel_futures=True)

    def _run_or_error(self, operation: Operation[Any]) -> Any:
        try:
            return self._run(operation)
        except ScrapeDoError as error:
            return error


class AsyncScrapeDoAsyncAPIClient(_Client):
    """Asyncio client with the same methods, parameters and errors as `ScrapeDoAsyncAPIClient`.

    ```python
    async with AsyncScrapeDoAsyncAPIClient() as client:
        result = await client.submit_and_wait(JobRequest(targets=["https://example.com"]))
    ```
    """

    _build_transport = staticmethod(async_transport)
    _transport: AsyncTransport

    @cached_property
    def concurrency(self) -> AdaptiveConcurrency:
        """Limit of concurrent requests, which adapts to how busy the service is."""
        return AdaptiveConcurrency(self.max_concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def create_job(self, request: JobRequest, *, retry: RetryPolicy | None = None) -> JobCreationResponse:
        """See `ScrapeDoAsyncAPIClient.create_job`."""
        return await self._run(self._operations.create_job(request, retry=retry))

    async def get_job(self, job_id: str) -> JobDetails:
        """See `ScrapeDoAsyncAPIClient.get_job`."""
        return await self._run(self._operations.get_job(job_id))

    async def get_task(self, job_id: str, task_id: str, *, admit: Admit | None = None) -> TaskDetails:
        """See `ScrapeDoAsyncAPIClient.get_task`.

        Args:
            job_id: id of the job.
            task_id: id of the task.
            admit: awaited before the body of each response is read, with its length in bytes, or None if unknown. It
                may wait until there is memory for the body.
        """
        return await self._run(self._operations.get_task(job_id, task_id), admit)

    async def list_jobs(self, query: JobsQuery | None = None) -> JobsListResponse:
        """See `ScrapeDoAsyncAPIClient.list_jobs`."""
        return await self._run(self._operations.list_jobs(query or JobsQuery()))

    async def iter_jobs(self, query: JobsQuery | None = None) -> AsyncIterator[JobDetails]:
        """See `ScrapeDoAsyncAPIClient.iter_jobs`."""
        listing = JobListing(query or JobsQuery())
        while not listing.done:
            for job in listing.accept(await self.list_jobs(listing.query)):
                yield job

    async def cancel_job(self, job_id: str) -> CancelJobResponse:
        """See `ScrapeDoAsyncAPIClient.cancel_job`."""
        return await self._run(self._operations.cancel_job(job_id))

    async def get_user_info(self) -> UserInformation:
        """See `ScrapeDoAsyncAPIClient.get_user_info`."""
        return await self._run(self._operations.get_user_info())

    async def get_server_time(self) -> datetime | None:
        """See `ScrapeDoAsyncAPIClient.get_server_time`."""
        return await self._run(self._operations.get_server_time())

    async def wait_for_job(
        self,
        job_id: str,
        *,
        timeout: timedelta | float = WAIT_TIMEOUT,
        backoff: Backoff = WAIT_BACKOFF,
        on_poll: OnPoll | None = None,
    ) -> JobDetails:
        """See `ScrapeDoAsyncAPIClient.wait_for_job`."""
        wait = self._operations.wait_for_job(job_id, timeout=_seconds(timeout), backoff=backoff, on_poll=on_poll)
        return await self._run(wait)

    async def submit_and_wait(
        self,
        request: JobRequest,
        *,
        timeout: timedelta | float = WAIT_TIMEOUT,
        backoff: Backoff = WAIT_BACKOFF,
        on_poll: OnPoll | None = None,
    ) -> JobResult:
        """See `ScrapeDoAsyncAPIClient.submit_and_wait`."""
        operation = self._operations.submit_and_wait(
            request, timeout=_seconds(timeout), backoff=backoff, on_poll=on_poll
        )
        return await self._run(operation)

    async def _run(self, operation: Operation[T], admit: Admit | None = None) -> T:
        reply: Any = None
        while True:
            try:
                command = operation.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(command, Call):
                halvings = self.concurrency.halvings
                reply = await self._transport.send(command, admit)
                self.concurrency.record_outcome(reply, halvings=halvings)
            elif isinstance(command, Sleep):
                await asyncio.sleep(command.seconds)
            else:
                reply = await self._run_concurrently(command.operations)

    async def _run_concurrently(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        async def run_or_error(operation: Operation[Any]) -> Any:
            async with self.concurrency:
                try:
                    return await self._run(operation)
                except ScrapeDoError as error:
                    return error

        return await asyncio.gather(*(run_or_error(operation) for operation in operations))


def _check_token(token: str | None) -> str:
    if not token:
        raise ValueError(f"No Scrape.do API token: pass api_token, or set the environment variable {TOKEN_VARIABLE}.")
    if not token.isascii() or not token.isprintable() or " " in token:
        # Without this check the HTTP library would raise an error that contains the token.
        raise ValueError(
            "The Scrape.do API token contains white space or invalid characters: copy it again from the Scrape.do "
            "dashboard. The usual cause is a trailing newline in a secret file."
        )
    return token


def _check_base_url(base_url: str) -> str:
    if "@" in base_url:
        raise ValueError("base_url must not contain a user name or password: it appears in logs and errors.")
    try:
        parts = urlsplit(check_target(base_url))
    except ValueError as error:
        raise ValueError(f"base_url: {error}. The service is at {DEFAULT_BASE_URL}.") from None
    if parts.query or parts.fragment:
        raise ValueError(f"base_url={base_url!r} has a query or a fragment: remove it, since the client appends paths.")
    address = base_url.rstrip("/?#")
    if address.endswith("/api/v1"):
        raise ValueError(f"base_url={base_url!r} ends in /api/v1: remove it, since the client appends it.")
    return address


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
