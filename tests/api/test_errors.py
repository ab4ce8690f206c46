"""Errors state what was attempted, on which object, what came back and what to do, and never contain the token."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from scrapedo_dagster.api import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    GoneError,
    IncompleteListingError,
    JobCanceledError,
    JobDetails,
    JobFailedError,
    JobRequest,
    JobsQuery,
    JobTimeoutError,
    NotAcceptableError,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    ScrapeDoError,
    ServerError,
    SubmissionUncertainError,
    TaskCanceledError,
    TaskDetails,
    TaskFailedError,
    UnparsableResponseError,
    errors,
    responses,
)
from scrapedo_dagster.api.commands import Call
from scrapedo_dagster.api.transport import async_transport, connection_limits

REQUEST = JobRequest(targets=["https://example.com/a"])
JOB = JobDetails.model_validate({"JobID": "j1", "Status": "error", "TaskIDs": ["t1"]})
TASK = TaskDetails.model_validate(
    {"JobID": "j1", "TaskID": "t1", "URL": "https://a.b/c", "Status": "error", "ErrorMessage": "no route"}
)
ONE_OF_EACH: list[ScrapeDoError] = [
    ScrapeDoError("plain", job_id="j1"),
    APIConnectionError("no answer", job_id="j1"),
    APIStatusError("teapot", status_code=418, detail="teapot", job_id="j1"),
    BadRequestError("bad", status_code=400, detail="bad"),
    AuthenticationError("who", status_code=401, detail="who"),
    NotFoundError("none", status_code=404, detail="none", job_id="j1"),
    NotAcceptableError("late", status_code=406, detail="late", job_id="j1"),
    GoneError("gone", status_code=410, detail="gone", job_id="j1"),
    RateLimitError("slow", status_code=429, detail="slow", job_id="j1", retry_after=7.5),
    ServerError("down", status_code=503, detail="down", job_id="j1"),
    UnparsableResponseError("what", job_id="j1"),
    IncompleteListingError("part"),
    SubmissionUncertainError("perhaps"),
    JobTimeoutError("j1", last_status="pending", elapsed=60.25, attempts=12),
    JobFailedError(JOB),
    JobCanceledError(JOB),
    TaskFailedError(TASK),
    TaskCanceledError(TASK),
]


def test_every_error_is_in_one_tree_and_in_these_tests() -> None:
    classes = {
        value
        for module in (errors, responses)
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and issubclass(value, BaseException)
    }
    assert all(issubclass(error, ScrapeDoError) for error in classes)
    assert classes == {type(error) for error in ONE_OF_EACH}


def test_transient_errors_are_those_of_an_incident() -> None:
    assert {type(error) for error in ONE_OF_EACH if error.transient} == {
        APIConnectionError,
        IncompleteListingError,
        RateLimitError,
        ServerError,
        UnparsableResponseError,
    }


def test_errors_that_may_concern_one_resource_are_those_of_a_single_answer() -> None:
    """A rate limit and a cut listing are about the whole service."""
    assert {type(error) for error in ONE_OF_EACH if error.may_concern_one_resource} == {
        APIConnectionError,
        ServerError,
        UnparsableResponseError,
    }


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_error_survives_being_pickled_and_copied(error: ScrapeDoError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (JobTimeoutError("j1", last_status="pending", elapsed=60.25, attempts=12), ["60.2", "12 polls", "'?pending"]),
        (JobTimeoutError("j1", last_status=None, elapsed=1, attempts=1), ["unknown", "wait again", "cancel"]),
        (JobFailedError(JOB), ["job j1", "error", "fetch its tasks"]),
        (JobCanceledError(JOB), ["job j1", "canceled", "submit the other targets again"]),
        (TaskFailedError(TASK), ["task t1 of job j1", "https://a.b/c", "no route", "submit this target again"]),
        (TaskCanceledError(TASK), ["task t1 of job j1", "https://a.b/c", "canceled", "submit this target again"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_of_a_bad_end_says_what_to_do(error: ScrapeDoError, says: list[str]) -> None:
    assert error.job_id == "j1"
    for words in says:
        assert words.removeprefix("'?").lower() in str(error).lower()


STATUSES = [
    (400, BadRequestError, "Correct the named parameter"),
    (401, AuthenticationError, "SCRAPE_DO_API_KEY"),
    (404, NotFoundError, "3 days"),
    (406, NotAcceptableError, "fetch its results"),
    (410, GoneError, "no longer available"),
    (429, RateLimitError, "fewer requests"),
    (500, ServerError, "try again later"),
    (502, ServerError, "try again later"),
    (503, ServerError, "try again later"),
    (504, ServerError, "try again later"),
    (599, ServerError, "try again later"),
    (418, APIStatusError, "not documented"),
    (302, APIStatusError, "not documented"),
]


@pytest.mark.parametrize(("status", "error", "advice"), STATUSES)
def test_status_selects_class_and_advice(
    client: Any, server: Any, reply: Any, status: int, error: type[APIStatusError], advice: str
) -> None:
    server.on("GET", "/jobs/j1/t1", reply.error(status, "the service's own words"))
    with pytest.raises(APIStatusError) as caught:
        client.get_task("j1", "t1")
    assert type(caught.value) is error
    assert (caught.value.status_code, caught.value.job_id) == (status, "j1")
    assert caught.value.detail == "the service's own words"
    for words in (
        "GET /api/v1/jobs/j1/t1",
        server.url,
        "task t1 of job j1",
        f"HTTP {status}",
        "the service's own words",
        advice,
    ):
        assert words in str(caught.value)


def raised_by(call: Any) -> ScrapeDoError:
    with pytest.raises(ScrapeDoError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda reply: reply.html(404), "an HTML page of 39 bytes instead of JSON"),
        (lambda reply: reply.raw(404, b""), "an empty body"),
        (lambda reply: reply.raw(404, b"plain words"), "plain words"),
        (lambda reply: reply.raw(404, b"\xff\xfe"), "\ufffd"),
        (lambda reply: reply.json(["odd"], 404), '["odd"]'),
        (lambda reply: reply.json({"Error": {"deep": 1}}, 404), "deep"),
        (lambda reply: reply.json({"Error": None, "Code": 404}, 404), "404"),
    ],
)
def test_body_that_is_not_an_error_response_is_described(
    client: Any, server: Any, reply: Any, answer: Any, says: str
) -> None:
    server.on("GET", "/jobs/j1", answer(reply))
    error = raised_by(lambda: client.get_job("j1"))
    assert isinstance(error, NotFoundError)
    assert says in str(error)


def test_long_body_is_shortened(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs/j1", reply.error(404, "x" * 100_000))
    assert len(str(raised_by(lambda: client.get_job("j1")))) < 800


def test_unreadable_success_is_described(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs/j1", reply.html()).on("GET", "/jobs/j2", reply.json({"Status": "success"}))
    first, second = raised_by(lambda: client.get_job("j1")), raised_by(lambda: client.get_job("j2"))
    assert isinstance(first, UnparsableResponseError)
    assert "HTTP 200 with a body that could not be read (text/html; charset=utf-8, 39 bytes)" in str(first)
    assert "JobID: Field required" in str(second)
    assert (first.job_id, second.job_id) == ("j1", "j2")


def test_connection_error_names_cause_and_address(connect: Any) -> None:
    error = raised_by(lambda: connect().get_job("j1"))
    assert isinstance(error, APIConnectionError)
    assert error.job_id == "j1"
    assert "GET /api/v1/jobs/j1 at http://127.0.0.1:" in str(error)
    assert "after 3 attempts: ConnectError" in str(error)
    assert "Check the base URL" in str(error)


def test_retry_after_is_in_seconds_for_numbers_and_dates(connect: Any, server: Any, reply: Any) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=500), usegmt=True)
    for path, value in (("/jobs/a", "17"), ("/jobs/b", date), ("/jobs/c", "soon")):
        server.on("GET", path, reply.error(429, Retry_After=value))
    client = connect(retry=RetryPolicy(attempts=1))
    shown = [raised_by(lambda name=name: client.get_job(name)) for name in ("a", "b", "c")]
    assert all(isinstance(error, RateLimitError) for error in shown)
    assert shown[0].retry_after == 17  # type: ignore[attr-defined]
    assert 490 <= shown[1].retry_after <= 500  # type: ignore[attr-defined]
    assert shown[2].retry_after is None  # type: ignore[attr-defined]


def test_ids_are_percent_encoded_in_the_path(client: Any, server: Any, reply: Any, task: Any) -> None:
    server.on("GET", "/jobs/a/b?c/ü #", reply.json(task("x", "https://a.b/c")))
    assert client.get_task("a/b?c", "ü #").task_id == "x"


# The token.

WAYS_TO_FAIL = {
    "lost": lambda reply, token: reply.lost,
    "hanging": lambda reply, token: reply.hanging,
    "broken-gzip": lambda reply, token: reply.raw(200, b"no gzip", Content_Encoding="gzip"),
    "quoted-in-the-error": lambda reply, token: reply.error(401, f"Invalid token {token}."),
    "quoted-at-the-cut": lambda reply, token: reply.error(500, "x" * 286 + f" {token} "),
    "quoted-in-text": lambda reply, token: reply.raw(400, f"bad token: {token}".encode()),
    "quoted-in-odd-json": lambda reply, token: reply.json({"message": {"token": token}}, 429),
    "quoted-in-the-content-type": lambda reply, token: reply.raw(200, b"?", Content_Type=f"text/{token}"),
    "quoted-in-json-that-does-not-fit": lambda reply, token: reply.json({"JobID": [token], token: token}),
    "redirected": lambda reply, token: reply.raw(302, b"", Location="http://127.0.0.1:1/"),
}
CALLS = {
    "create": ("POST", "/jobs", lambda client: client.create_job(REQUEST)),
    "get": ("GET", "/jobs/j1", lambda client: client.get_job("j1")),
    "task": ("GET", "/jobs/j1/t1", lambda client: client.get_task("j1", "t1")),
    "cancel": ("DELETE", "/jobs/j1", lambda client: client.cancel_job("j1")),
}


@pytest.mark.parametrize("way", WAYS_TO_FAIL)
@pytest.mark.parametrize("call", CALLS)
def test_token_is_in_no_error_even_if_the_service_quotes_it(
    connect: Any, server: Any, reply: Any, token: str, everything_an_error_shows: Any, way: str, call: str
) -> None:
    method, path, do = CALLS[call]
    server.on(method, path, WAYS_TO_FAIL[way](reply, token))
    client = connect(timeout=0.2 if way == "hanging" else 5.0, retry=RetryPolicy(attempts=1))
    shown = everything_an_error_shows(raised_by(lambda: do(client)))
    assert server.received(method)[0].headers["x-token"] == token
    assert token not in shown
    assert token[:10] not in shown


def test_token_is_in_no_error_of_a_wait_nor_of_what_could_not_be_fetched(
    connect: Any, server: Any, reply: Any, job: Any, token: str, everything_an_error_shows: Any, quick: Any
) -> None:
    bad = reply.error(503, f"down for {token}")
    server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": ["t0"]}))
    server.on("GET", "/jobs/j1", bad, reply.json(job("j1", "success", ("https://example.com/a",))), bad)
    server.on("GET", "/jobs/j1/t0", bad)
    client = connect()
    result = client.submit_and_wait(REQUEST, backoff=quick)
    assert token not in everything_an_error_shows(result.unavailable[0].error)
    assert token not in repr(result)
    late = raised_by(lambda: client.wait_for_job("j1", timeout=0.05, backoff=quick))
    assert isinstance(late, JobTimeoutError)
    assert token not in everything_an_error_shows(late)


def test_token_is_not_logged(
    connect: Any, flavour: str, server: Any, reply: Any, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("httpx", "httpcore", "aiohttp", "scrapedo_dagster", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    server.on("GET", "/me", reply.lost, reply.error(429, token), reply.json({"ActiveJobs": 1}))
    assert connect().get_user_info().active_jobs == 1
    talkative = {"blocking": "httpcore", "asyncio": "asyncio"}[flavour]
    assert any(record.name.startswith(talkative) for record in caplog.records)
    assert token not in caplog.text
    assert all(token not in repr(vars(record)) for record in caplog.records)


def test_token_is_in_no_repr(client: Any, token: str, server: Any) -> None:
    assert token not in f"{client!r} {client}"
    assert server.url in repr(client)
    assert token not in repr(client._operations)
    assert token not in repr(vars(client._transport))


def test_token_does_not_follow_a_redirect(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.raw(307, b"", Location=f"{server.url}/api/v1/jobs"))
    error = raised_by(client.get_user_info)
    assert isinstance(error, APIStatusError)
    assert [request.path for request in server.requests] == ["/api/v1/me"]


@pytest.mark.parametrize("bad", ["two words", "tab\there", "line\n", "ü-token", "\x00"])
def test_invalid_token_is_refused_without_showing_it(connect: Any, bad: str) -> None:
    with pytest.raises(ValueError, match="copy it again") as caught:
        connect(f"CANARY{bad}")
    assert "CANARY" not in str(caught.value)


def test_error_of_a_listing_has_no_token(
    client: Any, server: Any, reply: Any, token: str, everything_an_error_shows: Any
) -> None:
    server.on("GET", "/jobs", reply.error(401, token))
    assert token not in everything_an_error_shows(raised_by(lambda: list(client.iter_jobs(JobsQuery()))))


def test_request_of_an_error_has_no_token(connect: Any, token: str, flavour: str) -> None:
    """The error object of the transport itself has no token either."""
    kept: list[httpx.RequestError] = []

    class Keeping(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            kept.append(httpx.ReadError("lost", request=request))
            raise kept[-1]

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return self.handle_request(request)

    raised_by(lambda: connect(transport=Keeping()).get_job("j1"))
    assert len(kept) == 3
    assert all(token not in str(error.request.headers.raw) for error in kept)


async def test_error_returned_by_a_transport_shows_no_token(
    server: Any, token: str, everything_an_error_shows: Any
) -> None:
    def no_http(connection: Any, request: Any) -> bool:
        connection.sendall(b"this is not HTTP\r\n\r\n")
        return False

    server.on("GET", "/me", no_http)
    transport = async_transport(
        base_url=server.url, token=token, timeout=5, limits=connection_limits(1), transport=None, user_agent="test"
    )
    outcome = await transport.send(Call("GET", "/api/v1/me", "the account"))
    await transport.aclose()
    assert isinstance(outcome, httpx.ReadError)
    assert token not in everything_an_error_shows(outcome)


def test_the_password_of_a_proxy_is_in_no_error(
    connect: Any, server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, everything_an_error_shows: Any
) -> None:
    address = server.url.replace("://", "://me:sesame@")
    monkeypatch.setenv("HTTPS_PROXY", address)
    server.on("CONNECT", "", reply.raw(407, b""))
    error = raised_by(lambda: connect(base_url="https://service.invalid", retry=RetryPolicy(attempts=1)).get_job("j1"))
    assert "sesame" not in everything_an_error_shows(error)
