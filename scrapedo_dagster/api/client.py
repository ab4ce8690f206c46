"""The two clients of the Async API: `ScrapeDoAsyncAPIClient` blocks, `AsyncScrapeDoAsyncAPIClient` awaits.

"Async API" is the name of Scrape.do's service that works on jobs; it says nothing about asyncio. Both clients drive
the operations of `scrapedo_dagster.api.operations` and have the same methods, parameters and errors.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import httpx
from typing_extensions import Self

from scrapedo_dagster._version import __version__
from scrapedo_dagster.api.concurrency import AdaptiveConcurrency
from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.headers import Admit
from scrapedo_dagster.api.operations import Listing, Operations
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
from scrapedo_dagster.api.steps import Call, Operation, Sleep, Together
from scrapedo_dagster.api.transport import DEFAULT_TIMEOUT, AsyncSender, Sender, async_sender, connections

T = TypeVar("T")
OnPoll = Callable[[JobDetails], None]

TOKEN_VARIABLE = "SCRAPE_DO_API_KEY"  # noqa: S105 - the variable's name
WAIT_TIMEOUT = timedelta(hours=1)
WAIT_BACKOFF = Backoff(initial=1.0, maximum=30.0, multiplier=1.5)
MAX_CONCURRENCY = 64


class _Client:
    """What both clients are made of. Nothing connects before the first call."""

    _build: ClassVar[Callable[..., Any]]
    _http: Any

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
        """A client of one account.

        Args:
            api_token: the Scrape.do token; without one, the environment variable SCRAPE_DO_API_KEY.
            base_url: the service, or an emulator of it.
            timeout: seconds, or an `httpx.Timeout`, for each request.
            retry: how often requests that are safe to repeat are repeated.
            limits: connections at most, and how many are kept alive; by default `max_concurrency` of both.
            max_concurrency: tasks that are fetched at once, at least 1. The asyncio client takes fewer while the
                service answers 429 or not in time.
            transport: another httpx transport, sync or async as the client is.

        Raises:
            ValueError: there is no token, or the token or the base URL cannot be one, or max_concurrency is below 1.
        """
        if max_concurrency < 1:
            # Found only when the tasks are fetched, it would cost a job.
            raise ValueError(f"max_concurrency={max_concurrency}: at least 1 task has to be fetched at once")
        token = _usable_token(api_token if api_token is not None else os.environ.get(TOKEN_VARIABLE))
        self.base_url = _usable_base_url(base_url)
        self.max_concurrency = max_concurrency
        self._operations = Operations(base_url=self.base_url, token=token, retry=retry or RetryPolicy())
        self._http = self._build(
            base_url=self.base_url,
            token=token,
            timeout=timeout,
            limits=limits or connections(max_concurrency),
            transport=transport,
            user_agent=f"scrapedo-dagster/{__version__}",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"


class ScrapeDoAsyncAPIClient(_Client):
    """The blocking client. Safe to share between threads; close it, or use it in a `with` statement.

    ```python
    with ScrapeDoAsyncAPIClient() as client:  # the token is read from SCRAPE_DO_API_KEY
        result = client.submit_and_wait(JobRequest(targets=["https://example.com"]))
    ```
    """

    _build = Sender
    _http: Sender

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def create_job(self, request: JobRequest, *, retry: RetryPolicy | None = None) -> JobCreationResponse:
        """Submit a job: this is what costs credits. It is sent again only if it provably did not arrive.

        Args:
            request: the job.
            retry: another policy than the client's.

        Raises:
            SubmissionUncertainError: the answer is lost; the job may exist. Settle this by listing the jobs.
            APIConnectionError, RateLimitError: the job was not submitted, also not by the retries.
            APIStatusError: the service refused the job, see its subclasses.
        """
        return self._run(self._operations.create_job(request, retry=retry))

    def get_job(self, job_id: str) -> JobDetails:
        """A job with its tasks' ids, URLs and statuses.

        Raises:
            NotFoundError: no such job in this account, or its three days are over.
            ScrapeDoError: see the tree in `scrapedo_dagster.api.errors`.
        """
        return self._run(self._operations.get_job(job_id))

    def get_task(self, job_id: str, task_id: str) -> TaskDetails:
        """A task with its result. An unfinished task comes with a status that is not terminal, and no content.

        Raises:
            NotFoundError: no such task, or its three days are over.
            GoneError: this content is lost for good.
            ScrapeDoError: see the tree in `scrapedo_dagster.api.errors`.
        """
        return self._run(self._operations.get_task(job_id, task_id))

    def list_jobs(self, query: JobsQuery | None = None) -> JobsListResponse:
        """One page of the account's jobs, by default the first 100."""
        return self._run(self._operations.list_jobs(query or JobsQuery()))

    def iter_jobs(self, query: JobsQuery | None = None) -> Iterator[JobDetails]:
        """All jobs that the query matches, from all pages, each once.

        Raises:
            IncompleteListingError: the listing ended before it gave all the jobs it had announced.
        """
        listing = Listing(query or JobsQuery())
        while not listing.done:
            yield from listing.accept(self.list_jobs(listing.query))

    def cancel_job(self, job_id: str) -> CancelJobResponse:
        """Cancel a job. Tasks that are finished keep their results. A job that is canceled already is no error.

        Raises:
            NotAcceptableError: the job has finished.
            NotFoundError: no such job.
        """
        return self._run(self._operations.cancel_job(job_id))

    def get_user_info(self) -> UserInformation:
        """The account's concurrency, active jobs and credits."""
        return self._run(self._operations.get_user_info())

    def get_server_time(self) -> datetime | None:
        """The service's clock, to the second, from the Date header of GET /me; None if it sends none."""
        return self._run(self._operations.get_server_time())

    def wait_for_job(
        self,
        job_id: str,
        *,
        timeout: timedelta | float = WAIT_TIMEOUT,
        backoff: Backoff = WAIT_BACKOFF,
        on_poll: OnPoll | None = None,
    ) -> JobDetails:
        """Poll until the job is success, error or canceled, and return it, whichever it is.

        Incidents at the service do not end the wait; only the job's own end or the deadline does.

        Args:
            job_id: the job.
            timeout: a timedelta, or seconds, after which the wait (not the job) is given up. A poll that is under
                way then is not broken off.
            backoff: the pauses between polls.
            on_poll: called with the job after each successful poll.

        Raises:
            JobTimeoutError: the deadline came first. The job goes on.
            AuthenticationError, NotFoundError: waiting longer would not help.
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
        """Submit a job, wait for its end and fetch its tasks, several at once.

        The result holds every task that could be fetched, in the order of the targets, also where the job ended as
        error or canceled; `raise_for_status()` on it is your choice. Parameters and errors: `create_job` and
        `wait_for_job`.
        """
        operation = self._operations.submit_and_wait(
            request, timeout=_seconds(timeout), backoff=backoff, on_poll=on_poll
        )
        return self._run(operation)

    def _run(self, operation: Operation[T]) -> T:
        reply: Any = None
        while True:
            try:
                step = operation.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Call):
                reply = self._http.send(step)
            elif isinstance(step, Sleep):
                time.sleep(step.seconds)
            else:
                reply = self._run_together(step)

    def _run_together(self, step: Together) -> list[Any]:
        pool = ThreadPoolExecutor(max_workers=self.max_concurrency, thread_name_prefix="scrapedo")
        try:
            return list(pool.map(self._run_or_error, step.operations))
        finally:
            # An interrupt must not wait for the hundreds of tasks that are still queued.
            pool.shutdown(cancel_futures=True)

    def _run_or_error(self, operation: Operation[Any]) -> Any:
        try:
            return self._run(operation)
        except ScrapeDoError as error:
            return error


class AsyncScrapeDoAsyncAPIClient(_Client):
    """The asyncio client: the same methods, parameters and errors as `ScrapeDoAsyncAPIClient`, to be awaited.

    ```python
    async with AsyncScrapeDoAsyncAPIClient() as client:
        result = await client.submit_and_wait(JobRequest(targets=["https://example.com"]))
    ```
    """

    _build = staticmethod(async_sender)
    _http: AsyncSender

    @cached_property
    def concurrency(self) -> AdaptiveConcurrency:
        """How many tasks are fetched at once, as the service bears it."""
        return AdaptiveConcurrency(self.max_concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def create_job(self, request: JobRequest, *, retry: RetryPolicy | None = None) -> JobCreationResponse:
        """See `ScrapeDoAsyncAPIClient.create_job`."""
        return await self._run(self._operations.create_job(request, retry=retry))

    async def get_job(self, job_id: str) -> JobDetails:
        """See `ScrapeDoAsyncAPIClient.get_job`."""
        return await self._run(self._operations.get_job(job_id))

    async def get_task(self, job_id: str, task_id: str, *, admit: Admit | None = None) -> TaskDetails:
        """See `ScrapeDoAsyncAPIClient.get_task`.

        Args:
            job_id: its job.
            task_id: the task.
            admit: awaited before the body of each answer is read, with its length in bytes if that is known: it may
                wait until there is room for it.
        """
        return await self._run(self._operations.get_task(job_id, task_id), admit)

    async def list_jobs(self, query: JobsQuery | None = None) -> JobsListResponse:
        """See `ScrapeDoAsyncAPIClient.list_jobs`."""
        return await self._run(self._operations.list_jobs(query or JobsQuery()))

    async def iter_jobs(self, query: JobsQuery | None = None) -> AsyncIterator[JobDetails]:
        """See `ScrapeDoAsyncAPIClient.iter_jobs`."""
        listing = Listing(query or JobsQuery())
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
                step = operation.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Call):
                halved = self.concurrency.halved
                reply = await self._http.send(step, admit)
                self.concurrency.heard(reply, halved=halved)
            elif isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
            else:
                reply = await self._run_together(step)

    async def _run_together(self, step: Together) -> list[Any]:
        async def run_or_error(operation: Operation[Any]) -> Any:
            async with self.concurrency:
                try:
                    return await self._run(operation)
                except ScrapeDoError as error:
                    return error

        return await asyncio.gather(*(run_or_error(operation) for operation in step.operations))


def _usable_token(token: str | None) -> str:
    if not token:
        raise ValueError(f"No Scrape.do API token: pass api_token, or set the environment variable {TOKEN_VARIABLE}.")
    if not token.isascii() or not token.isprintable() or " " in token:
        # Without the check, the HTTP library would repeat the token in its own error.
        raise ValueError(
            "The Scrape.do API token contains white space or characters that no token has: copy it again from the "
            "Scrape.do dashboard (a trailing newline from a secret file is the usual cause)."
        )
    return token


def _usable_base_url(base_url: str) -> str:
    if "@" in base_url:
        raise ValueError("base_url must not contain a user name or password: it appears in logs and errors.")
    try:
        parts = urlsplit(check_target(base_url))
    except ValueError as error:
        raise ValueError(f"base_url: {error}. The service is at {DEFAULT_BASE_URL}.") from None
    if parts.query or parts.fragment:
        raise ValueError(f"base_url={base_url!r} has a query or a fragment, and paths are added to its end.")
    address = base_url.rstrip("/?#")
    if address.endswith("/api/v1"):
        raise ValueError(f"base_url={base_url!r} ends in /api/v1, which the client adds: leave it out.")
    return address


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
