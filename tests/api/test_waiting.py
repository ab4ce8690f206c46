"""A wait ends with the job or at its deadline, and not because of transient errors."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from scrapedo_dagster.api import (
    AuthenticationError,
    Backoff,
    JobDetails,
    JobTimeoutError,
    NotFoundError,
    ServerError,
    commands,
)
from scrapedo_dagster.api.operations import Operations
from scrapedo_dagster.api.retry import RetryPolicy


@pytest.mark.parametrize("end", ["success", "error", "canceled"])
def test_wait_returns_the_job_in_any_terminal_status(
    client: Any, server: Any, reply: Any, job: Any, quick: Any, end: str
) -> None:
    states = ["queuing", "queued", "pending", "rotating", end]
    server.on("GET", "/jobs/j1", *(reply.json(job("j1", status)) for status in states))
    assert client.wait_for_job("j1", backoff=quick).status == end
    assert server.count("GET") == 5


def test_unknown_status_does_not_end_the_wait(client: Any, server: Any, reply: Any, job: Any, quick: Any) -> None:
    states = ["finalizing", "", "done", "success"]
    server.on("GET", "/jobs/j1", *(reply.json(job("j1", status)) for status in states))
    assert client.wait_for_job("j1", backoff=quick).is_success
    assert server.count("GET") == 4


def test_transient_errors_do_not_end_the_wait(connect: Any, server: Any, reply: Any, job: Any, quick: Any) -> None:
    server.on(
        "GET",
        "/jobs/j1",
        reply.error(500),
        reply.json(job("j1", "pending")),
        reply.lost,
        reply.reset,
        reply.html(200),
        reply.html(502),
        reply.error(429, Retry_After="0"),
        reply.truncated,
        reply.error(503),
        reply.json(job("j1")),
    )
    client = connect(retry=RetryPolicy(attempts=1))
    assert client.wait_for_job("j1", backoff=quick).is_success
    assert server.count("GET") == 10


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (404, NotFoundError)])
def test_permanent_errors_end_the_wait(
    client: Any, server: Any, reply: Any, job: Any, quick: Any, status: int, error: type[Exception]
) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1", "pending")), reply.error(status))
    with pytest.raises(error) as caught:
        client.wait_for_job("j1", backoff=quick)
    assert caught.value.job_id == "j1"  # type: ignore[attr-defined]
    assert server.count("GET") == 2


@pytest.mark.parametrize("timeout", [0.2, timedelta(seconds=0.2)])
def test_wait_ends_at_its_deadline_with_the_id_of_the_running_job(
    client: Any, server: Any, reply: Any, job: Any, timeout: Any
) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1", "rotating")))
    started = time.monotonic()
    with pytest.raises(JobTimeoutError, match=r"Job j1 .*last status: rotating") as caught:
        client.wait_for_job("j1", timeout=timeout, backoff=Backoff(initial=0.01, maximum=0.05))
    assert 0.2 <= time.monotonic() - started < 5
    assert (caught.value.job_id, caught.value.last_status) == ("j1", "rotating")
    assert caught.value.elapsed >= 0.2
    assert caught.value.attempts == server.count("GET") >= 3
    assert server.count("DELETE") == 0


def test_wait_does_not_sleep_past_its_deadline(client: Any, server: Any, reply: Any, job: Any) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1", "pending")))
    started = time.monotonic()
    with pytest.raises(JobTimeoutError):
        client.wait_for_job("j1", timeout=0.1, backoff=Backoff(initial=3600, maximum=3600))
    assert time.monotonic() - started < 5
    assert server.count("GET") == 2  # once more at the deadline


def test_retry_after_does_not_extend_the_deadline(client: Any, server: Any, reply: Any, quick: Any) -> None:
    server.on("GET", "/jobs/j1", reply.error(429, Retry_After="3600"))
    started = time.monotonic()
    with pytest.raises(JobTimeoutError, match="unknown"):
        client.wait_for_job("j1", timeout=0.1, backoff=quick)
    assert time.monotonic() - started < 5


def test_deadline_without_a_successful_poll_reports_the_last_error(
    client: Any, server: Any, reply: Any, quick: Any
) -> None:
    server.on("GET", "/jobs/j1", reply.error(503, "under repair"))
    with pytest.raises(JobTimeoutError) as caught:
        client.wait_for_job("j1", timeout=0, backoff=quick)
    assert caught.value.last_status is None
    assert isinstance(caught.value.__cause__, ServerError)
    assert "under repair" in str(caught.value.__cause__)


def test_ended_job_is_returned_with_a_timeout_of_zero(client: Any, server: Any, reply: Any, job: Any) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1")))
    assert client.wait_for_job("j1", timeout=0).is_success


def test_each_poll_that_succeeds_is_reported(client: Any, server: Any, reply: Any, job: Any, quick: Any) -> None:
    server.on(
        "GET", "/jobs/j1", *(reply.json(job("j1", s)) for s in ("queued", "pending")), reply.lost, reply.json(job())
    )
    seen: list[JobDetails] = []
    client.wait_for_job("j1", backoff=quick, on_poll=seen.append)
    assert [job.status for job in seen] == ["queued", "pending", "success"]


def test_error_in_on_poll_ends_the_wait(client: Any, server: Any, reply: Any, job: Any, quick: Any) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1", "pending")))

    def stop(job: JobDetails) -> None:
        raise KeyError(job.job_id)

    with pytest.raises(KeyError, match="j1"):
        client.wait_for_job("j1", backoff=quick, on_poll=stop)


def pauses_of_a_wait(backoff: Backoff, answers: list[httpx.Response], timeout: float = 1e9) -> list[float]:
    """Return the pauses of a wait between these responses, without sleeping."""
    operations = Operations(base_url="https://q.scrape.do", token="x", retry=RetryPolicy())
    wait = operations.wait_for_job("j1", timeout=timeout, backoff=backoff, on_poll=None)
    pauses: list[float] = []
    left = iter(answers)
    command = next(wait)
    try:
        while True:
            if isinstance(command, commands.Sleep):
                pauses.append(command.seconds)
                command = wait.send(None)
            else:
                command = wait.send(next(left))
    except StopIteration:
        return pauses


def test_pauses_between_polls_grow_within_their_bounds_and_differ() -> None:
    answers = [httpx.Response(200, json={"JobID": "j1", "Status": "pending"})] * 12
    answers.append(httpx.Response(200, json={"JobID": "j1", "Status": "success"}))
    backoff = Backoff(initial=1, maximum=20, multiplier=2)
    for _ in range(20):
        for attempt, pause in enumerate(pauses_of_a_wait(backoff, answers)):
            whole = min(2**attempt, 20)
            assert 0.5 * whole <= pause <= whole
    assert pauses_of_a_wait(backoff, answers) != pauses_of_a_wait(backoff, answers)


def test_throttled_poll_waits_for_retry_after() -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "77"}),
        httpx.Response(429, headers={"Retry-After": "0"}),
        httpx.Response(200, json={"JobID": "j1", "Status": "success"}),
    ]
    first, second = pauses_of_a_wait(Backoff(initial=1, maximum=10), answers)
    assert first == 77
    assert 1 <= second <= 2
