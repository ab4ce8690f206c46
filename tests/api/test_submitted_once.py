"""A submission that may have arrived is never resent: it would be charged twice.

All of this against a real server on a loopback socket, for the blocking and for the asyncio client, and at the end
against the public SDK for comparison.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from scrape_do.async_api import AsyncScrapeDoAsyncAPIClient as AsyncSDKClient
from scrape_do.async_api import ScrapeDoAsyncAPIClient as SDKClient

from scrapedo_dagster.api import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    JobRequest,
    RateLimitError,
    RetryPolicy,
    ScrapeDoError,
    SubmissionUncertainError,
)

TARGETS = ["https://example.com/1", "https://example.com/2"]
REQUEST = JobRequest(targets=TARGETS, session_id=7)
CREATED = {"JobID": "j1", "TaskIDs": ["t1", "t2"]}

UNCERTAIN = {
    "lost": lambda reply: reply.lost,
    "reset": lambda reply: reply.reset,
    "hanging": lambda reply: reply.hanging,
    "truncated": lambda reply: reply.truncated,
    "500": lambda reply: reply.error(500),
    "502": lambda reply: reply.error(502),
    "503": lambda reply: reply.error(503, Retry_After="0"),
    "504": lambda reply: reply.html(504),
    "408": lambda reply: reply.error(408),
    "redirect": lambda reply: reply.raw(307, b"", Location="/api/v1/elsewhere"),
    "html-200": lambda reply: reply.html(200),
    "empty-200": lambda reply: reply.raw(200, b""),
    "json-without-id": lambda reply: reply.json({"Message": "created"}),
    "broken-gzip": lambda reply: reply.raw(200, b"no gzip", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("answer", UNCERTAIN)
def test_submission_without_a_valid_response_is_sent_exactly_once(
    connect: Any, server: Any, reply: Any, answer: str
) -> None:
    server.on("POST", "/jobs", UNCERTAIN[answer](reply), reply.json(CREATED))
    client = connect(timeout=0.6 if answer == "hanging" else 5.0, retry=RetryPolicy(attempts=5))
    with pytest.raises(SubmissionUncertainError) as caught:
        client.create_job(REQUEST)
    assert server.count("POST") == 1
    assert server.received("POST")[0].json == {"Targets": TARGETS, "SessionID": "7"}
    for words in ("a job of 2 tasks", "Do not resend it", "list the jobs", "POST /api/v1/jobs"):
        assert words in str(caught.value)


def test_submission_lost_on_a_reused_connection_is_not_resent(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.json({})).on("POST", "/jobs", reply.lost, reply.json(CREATED))
    client.get_user_info()
    with pytest.raises(SubmissionUncertainError):
        client.create_job(REQUEST)
    assert server.count("POST") == 1


@pytest.mark.parametrize(
    ("status", "error"), [(400, BadRequestError), (401, AuthenticationError), (403, APIStatusError)]
)
def test_refused_submission_is_sent_once_and_certainly_created_nothing(
    client: Any, server: Any, reply: Any, status: int, error: type[APIStatusError]
) -> None:
    server.on("POST", "/jobs", reply.error(status, "no such country"))
    with pytest.raises(error, match="no such country") as caught:
        client.create_job(REQUEST)
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.status_code == status
    assert server.count("POST") == 1


def test_throttled_submission_is_repeated_and_succeeds(client: Any, server: Any, reply: Any) -> None:
    server.on("POST", "/jobs", reply.error(429), reply.html(429), reply.json(CREATED))
    assert client.create_job(REQUEST).job_id == "j1"
    assert [request.json for request in server.received("POST")] == [{"Targets": TARGETS, "SessionID": "7"}] * 3


def test_throttled_submission_that_is_lost_when_repeated_is_uncertain(client: Any, server: Any, reply: Any) -> None:
    server.on("POST", "/jobs", reply.error(429), reply.lost, reply.json(CREATED))
    with pytest.raises(SubmissionUncertainError):
        client.create_job(REQUEST)
    assert server.count("POST") == 2


def test_throttle_that_does_not_end_is_a_rate_limit_error_and_not_an_uncertainty(
    client: Any, server: Any, reply: Any
) -> None:
    server.on("POST", "/jobs", reply.error(429, Retry_After="0"))
    with pytest.raises(RateLimitError, match="after 3 attempts"):
        client.create_job(REQUEST)
    assert server.count("POST") == 3


class BlockingTransportToAServerThatStartsLate(httpx.HTTPTransport):
    """The server listens only when the third connection is tried."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self.server, self.tried = server, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.tried += 1
        if self.tried == 3:
            self.server.listen()
        return super().handle_request(request)


class AsyncTransportToAServerThatStartsLate(httpx.AsyncHTTPTransport):
    """The server listens only when the third connection is tried."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self.server, self.tried = server, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.tried += 1
        if self.tried == 3:
            self.server.listen()
        return await super().handle_async_request(request)


@pytest.fixture
def late_transport(flavour: str, silent_server: Any) -> Any:
    """A transport whose first two connections are refused."""
    kinds = {"blocking": BlockingTransportToAServerThatStartsLate, "asyncio": AsyncTransportToAServerThatStartsLate}
    return kinds[flavour](silent_server)


def test_submission_that_could_not_connect_is_repeated_and_succeeds(
    connect: Any, silent_server: Any, late_transport: Any, reply: Any
) -> None:
    silent_server.on("POST", "/jobs", reply.json(CREATED))
    assert connect(transport=late_transport).create_job(REQUEST).job_id == "j1"
    assert late_transport.tried == 3
    assert silent_server.count("POST") == 1


def test_submission_that_never_connects_is_a_connection_error_and_not_an_uncertainty(connect: Any) -> None:
    client = connect()
    with pytest.raises(APIConnectionError, match=r"POST /api/v1/jobs at .* after 3 attempts: ConnectError"):
        client.create_job(REQUEST)


def test_submission_through_a_pool_without_a_free_connection_never_left(
    connect: Any, server: Any, reply: Any, quick: Any
) -> None:
    class Full(httpx.BaseTransport, httpx.AsyncBaseTransport):
        asked = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.asked += 1
            raise httpx.PoolTimeout("no free connection")

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return self.handle_request(request)

    full = Full()
    with pytest.raises(APIConnectionError, match="PoolTimeout"):
        connect(transport=full, retry=RetryPolicy(attempts=4, backoff=quick)).create_job(REQUEST)
    assert full.asked == 4


def test_policy_without_retries_sends_once(connect: Any, server: Any, reply: Any) -> None:
    server.on("POST", "/jobs", reply.error(429)).on("GET", "/me", reply.error(503))
    client = connect(retry=RetryPolicy(attempts=1))
    for call in (lambda: client.create_job(REQUEST), client.get_user_info):
        with pytest.raises(ScrapeDoError):
            call()
    assert (server.count("POST"), server.count("GET")) == (1, 1)


@pytest.mark.parametrize("sdk", [SDKClient, AsyncSDKClient])
@pytest.mark.parametrize("answer", ["502", "lost", "503", "504", pytest.param("hanging", marks=pytest.mark.slow)])
def test_for_comparison_the_public_sdk_submits_four_times(server: Any, reply: Any, sdk: Any, answer: str) -> None:
    """With its default settings except for shorter pauses; four jobs would exist."""
    server.on("POST", "/jobs", *[UNCERTAIN[answer](reply)] * 3, reply.json(CREATED))
    local = type("Local", (sdk,), {"BASE_URL": server.url})

    def submit() -> Any:
        with local("token", retry_backoff=0.001, timeout=0.6 if answer == "hanging" else 5.0) as client:
            return client.create_job(targets=TARGETS)

    async def submit_async() -> Any:
        async with local("token", retry_backoff=0.001, timeout=0.6 if answer == "hanging" else 5.0) as client:
            return await client.create_job(targets=TARGETS)

    created = submit() if sdk is SDKClient else asyncio.run(submit_async())
    assert created.job_id == "j1"
    assert server.count("POST") == 4
    assert sum(len(request.json["Targets"]) for request in server.received("POST")) == 4 * len(TARGETS)
