"""GET and DELETE are retried; pure functions decide how long to wait."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.api import (
    APIConnectionError,
    AuthenticationError,
    Backoff,
    GoneError,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.retry import never_processed, retry_after

PASSING = {
    "lost": lambda reply: reply.lost,
    "reset": lambda reply: reply.reset,
    "hanging": lambda reply: reply.hanging,
    "truncated": lambda reply: reply.truncated,
    "429": lambda reply: reply.error(429),
    "500": lambda reply: reply.error(500),
    "502": lambda reply: reply.html(502),
    "503": lambda reply: reply.error(503),
    "504": lambda reply: reply.raw(504, b""),
    "html-200": lambda reply: reply.html(200),
    "empty-200": lambda reply: reply.raw(200, b""),
    "broken-gzip": lambda reply: reply.raw(200, b"no gzip", Content_Encoding="gzip"),
}
ENDINGS = {
    "lost": APIConnectionError,
    "reset": APIConnectionError,
    "hanging": APIConnectionError,
    "truncated": APIConnectionError,
    "429": RateLimitError,
    "html-200": UnparsableResponseError,
    "empty-200": UnparsableResponseError,
    "broken-gzip": APIConnectionError,
}


@pytest.fixture
def patient(connect: Any, server: Any, trouble: str) -> Any:
    """A client with a short timeout for hanging responses."""
    return connect(timeout=0.4 if trouble == "hanging" else 5.0)


@pytest.mark.parametrize("trouble", PASSING)
def test_get_is_retried_until_it_succeeds(patient: Any, server: Any, reply: Any, job: Any, trouble: str) -> None:
    passing = PASSING[trouble](reply)
    server.on("GET", "/jobs/j1", passing, passing, reply.json(job("j1")))
    assert patient.get_job("j1").is_success
    assert server.count("GET") == 3


@pytest.mark.parametrize("trouble", ["lost", "500", "429", "html-200"])
def test_delete_is_retried_until_it_succeeds(client: Any, server: Any, reply: Any, job: Any, trouble: str) -> None:
    passing = PASSING[trouble](reply)
    server.on("DELETE", "/jobs/j1", passing, passing, reply.json(job("j1", "pending", Canceled=True)))
    assert client.cancel_job("j1").canceled
    assert server.count("DELETE") == 3


@pytest.mark.parametrize("trouble", PASSING)
def test_error_is_raised_after_the_last_attempt(patient: Any, server: Any, reply: Any, trouble: str) -> None:
    server.on("GET", "/jobs/j1", PASSING[trouble](reply))
    with pytest.raises(ENDINGS.get(trouble, ServerError), match="after 3 attempts") as caught:
        patient.get_job("j1")
    assert caught.value.job_id == "j1"
    assert server.count("GET") == 3


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (404, NotFoundError), (410, GoneError)])
def test_permanent_error_is_not_retried(
    client: Any, server: Any, reply: Any, status: int, error: type[Exception]
) -> None:
    server.on("GET", "/jobs/j1/t1", reply.error(status))
    with pytest.raises(error):
        client.get_task("j1", "t1")
    assert server.count("GET") == 1


def test_retry_after_is_respected(connect: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.error(429, Retry_After="0.3"), reply.json({"ActiveJobs": 3}))
    assert connect().get_user_info().active_jobs == 3
    first, second = server.received("GET")
    assert second.at - first.at >= 0.3


def test_retry_after_that_is_too_long_raises(connect: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.error(429, Retry_After="3600"))
    started = time.monotonic()
    with pytest.raises(RateLimitError) as caught:
        connect(retry=RetryPolicy(max_retry_after=60)).get_user_info()
    assert caught.value.retry_after == 3600
    assert time.monotonic() - started < 5
    assert server.count("GET") == 1


# Decisions, without a socket.

BACKOFFS = st.builds(
    Backoff,
    initial=st.floats(0, 1e6),
    maximum=st.floats(0, 1e6),
    multiplier=st.floats(1, 1e6),
)


@given(BACKOFFS, st.integers(0, 10_000))
def test_pause_is_half_to_all_of_the_growing_interval_and_never_above_the_maximum(
    backoff: Backoff, attempt: int
) -> None:
    pause = backoff.pause(attempt)
    assert 0 <= pause <= backoff.maximum
    if attempt == 0:
        assert 0.5 * min(backoff.initial, backoff.maximum) <= pause <= backoff.initial
    if backoff.initial and backoff.multiplier >= 2 and attempt > 2_200:
        assert pause >= 0.5 * backoff.maximum


@given(BACKOFFS, st.integers(0, 200))
def test_pauses_grow_except_for_jitter(backoff: Backoff, attempt: int) -> None:
    assert backoff.pause(attempt + 1) * 2 >= backoff.pause(attempt) * (1 - 1e-9)


def test_pauses_have_jitter() -> None:
    assert len({Backoff().pause(3) for _ in range(20)}) > 15


@pytest.mark.parametrize("settings", [{"initial": -1}, {"maximum": -0.1}, {"multiplier": 0.5}])
def test_invalid_backoff_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Backoff(**settings)


def test_policy_requires_one_attempt() -> None:
    with pytest.raises(ValueError, match="attempts=0"):
        RetryPolicy(attempts=0)


RESPONSES = st.builds(
    lambda status, after: httpx.Response(status, headers={} if after is None else {"Retry-After": after}),
    st.integers(200, 599),
    st.none() | st.integers(-5, 500).map(str) | st.sampled_from(["soon", "inf", "nan", ""]),
)
LOST = st.sampled_from([httpx.ReadError, httpx.ReadTimeout, httpx.WriteError, httpx.RemoteProtocolError])
REFUSED = st.sampled_from([httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
OUTCOMES = RESPONSES | (LOST | REFUSED).map(lambda kind: kind("no answer"))


@given(OUTCOMES, st.booleans(), st.integers(0, 8), st.integers(1, 6))
def test_policy_pauses_stay_within_bounds(outcome: Any, idempotent: bool, attempt: int, attempts: int) -> None:
    policy = RetryPolicy(attempts=attempts, max_retry_after=100)
    pause = policy.pause_before_retry(outcome, idempotent=idempotent, attempt=attempt)
    assert pause is None or 0 <= pause <= 100
    if attempt + 1 >= attempts:
        assert pause is None


@given(OUTCOMES, st.integers(0, 2))
def test_policy_retries_a_submission_only_after_429_or_no_connection(outcome: Any, attempt: int) -> None:
    policy = RetryPolicy(max_retry_after=float("inf"))
    repeated = policy.pause_before_retry(outcome, idempotent=False, attempt=attempt) is not None
    if isinstance(outcome, httpx.Response):
        assert repeated == (outcome.status_code == 429)
    else:
        assert repeated == isinstance(outcome, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))


@given(OUTCOMES)
def test_retried_submissions_were_never_processed(outcome: Any) -> None:
    if RetryPolicy(max_retry_after=float("inf")).pause_before_retry(outcome, idempotent=False, attempt=0) is not None:
        assert never_processed(outcome)


@given(st.integers(0, 10_000))
def test_retry_after_is_read_in_seconds(seconds: int) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": f" {seconds} "})) == seconds


@given(st.integers(5, 5_000))
def test_retry_after_is_read_as_an_http_date(seconds: int) -> None:
    date = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    asked = retry_after(httpx.Response(429, headers={"Retry-After": format_datetime(date, usegmt=True)}))
    assert asked is not None
    assert seconds - 3 <= asked <= seconds


@pytest.mark.parametrize(
    ("value", "seconds"), [("-5", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("", None), ("soon", None)]
)
def test_retry_after_in_the_past_is_zero_and_an_invalid_one_is_none(value: str, seconds: float | None) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": value})) == seconds


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40))
def test_no_retry_after_breaks_the_client(value: str) -> None:
    asked = retry_after(httpx.Response(429, headers=[(b"Retry-After", value.encode("latin-1"))]))
    assert asked is None or asked >= 0
