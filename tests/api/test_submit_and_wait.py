"""A job from its submission to its results, for any outcome of its tasks."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.api import (
    AsyncScrapeDoAsyncAPIClient,
    AuthenticationError,
    GoneError,
    JobCanceledError,
    JobFailedError,
    JobRequest,
    JobTimeoutError,
    NotFoundError,
    PluginRequest,
    ServerError,
    SubmissionUncertainError,
    TaskDetails,
    TaskFailedError,
)
from scrapedo_dagster.api.operations import Operations
from scrapedo_dagster.api.responses import JobDetails, JobResult
from scrapedo_dagster.api.retry import RetryPolicy


def targets(amount: int) -> list[str]:
    return [f"https://example.com/{number}" for number in range(amount)]


@pytest.fixture
def finished(server: Any, reply: Any, job: Any, task: Any) -> Any:
    """Scripts an ended job with a task for each URL."""

    def script(urls: Sequence[str], status: str = "success", **more: Any) -> None:
        body = job("j1", status, tuple(urls), **more)
        server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": body["TaskIDs"] or []}))
        server.on("GET", "/jobs/j1", reply.json(body))
        for number, url in enumerate(urls):
            server.on("GET", f"/jobs/j1/t{number}", reply.json(task(f"t{number}", url)))

    return script


def test_job_is_submitted_once_awaited_and_its_tasks_returned(
    client: Any, server: Any, reply: Any, job: Any, task: Any, quick: Any
) -> None:
    urls = targets(3)
    server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": ["t0", "t1", "t2"]}))
    states = ("queued", "pending", "success")
    server.on("GET", "/jobs/j1", *(reply.json(job("j1", status, tuple(urls))) for status in states))
    for number, url in enumerate(urls):
        server.on("GET", f"/jobs/j1/t{number}", reply.json(task(f"t{number}", url)))
    seen: list[str] = []
    result = client.submit_and_wait(
        JobRequest(targets=urls), backoff=quick, on_poll=lambda polled: seen.append(polled.status)
    )
    assert [task.url for task in result.tasks] == urls
    assert [task.decoded_content() for task in result.tasks] == [b"page of t0", b"page of t1", b"page of t2"]
    assert result.is_success
    assert result.job.job_id == "j1"
    assert seen == ["queued", "pending", "success"]
    assert server.count("POST") == 1
    assert [server.count("GET", f"/jobs/j1/t{number}") for number in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("status", ["error", "canceled"])
def test_failed_job_returns_its_tasks_and_does_not_raise(client: Any, finished: Any, status: str) -> None:
    finished(targets(2), status)
    result = client.submit_and_wait(JobRequest(targets=targets(2)))
    assert [task.is_success for task in result.tasks] == [True, True]
    assert not result.is_success
    with pytest.raises({"error": JobFailedError, "canceled": JobCanceledError}[status]):
        result.raise_for_status()


def test_job_that_lists_no_tasks_returns_those_of_its_submission(
    client: Any, server: Any, reply: Any, job: Any, task: Any
) -> None:
    server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": ["t1", "t0"]}))
    server.on("GET", "/jobs/j1", reply.json({"JobID": "j1", "Status": "error", "TaskIDs": None, "Tasks": None}))
    for number, url in enumerate(targets(2)):
        server.on("GET", f"/jobs/j1/t{number}", reply.json(task(f"t{number}", url)))
    result = client.submit_and_wait(JobRequest(targets=targets(2)))
    assert [task.url for task in result.tasks] == targets(2)
    with pytest.raises(JobFailedError):
        result.raise_for_status()


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (410, GoneError), (500, ServerError)])
def test_task_that_cannot_be_fetched_does_not_affect_others(
    client: Any, server: Any, reply: Any, finished: Any, status: int, error: type[Exception]
) -> None:
    server.on("GET", "/jobs/j1/t1", *[reply.error(status)] * 10)
    finished(targets(4))
    result = client.submit_and_wait(JobRequest(targets=targets(4)))
    assert [task.url for task in result.tasks] == [url for url in targets(4) if not url.endswith("/1")]
    (missing,) = result.unavailable
    assert (missing.task_id, missing.url) == ("t1", "https://example.com/1")
    assert isinstance(missing.error, error)
    assert missing.error.job_id == "j1"
    assert not result.is_success
    with pytest.raises(error):
        result.raise_for_status()


def test_failed_task_is_returned_with_its_reason(
    client: Any, server: Any, reply: Any, finished: Any, task: Any
) -> None:
    bad = task("t1", targets(2)[1], status="error", StatusCode=0, Content=None, ErrorMessage="no route")
    server.on("GET", "/jobs/j1/t1", reply.json(bad), reply.json(bad))
    finished(targets(2))
    result = client.submit_and_wait(JobRequest(targets=targets(2)))
    assert [(task.status, task.error_message) for task in result.tasks] == [("success", None), ("error", "no route")]
    with pytest.raises(TaskFailedError, match="no route"):
        result.raise_for_status()


def test_transient_error_of_a_task_is_retried(client: Any, server: Any, reply: Any, finished: Any) -> None:
    server.on("GET", "/jobs/j1/t0", reply.lost, reply.error(502))
    finished(targets(1))
    assert client.submit_and_wait(JobRequest(targets=targets(1))).is_success
    assert server.count("GET", "/jobs/j1/t0") == 3


def test_tasks_are_fetched_at_the_same_time(connect: Any, server: Any, reply: Any, finished: Any, task: Any) -> None:
    """The server responds only once six requests for tasks are waiting."""
    urls = targets(12)
    meeting = reply.once_in_flight(
        6, lambda request: reply.json(task(name := request.path.rpartition("/")[2], urls[int(name[1:])]))
    )
    for number in range(12):
        server.on("GET", f"/jobs/j1/t{number}", meeting)
    finished(urls[:0])
    server._script["GET", "/api/v1/jobs/j1"] = [
        reply.json({"JobID": "j1", "Status": "success", "TaskIDs": [f"t{n}" for n in range(12)]})
    ]
    result = connect(max_concurrency=6, timeout=20).submit_and_wait(JobRequest(targets=urls))
    assert [task.url for task in result.tasks] == urls
    assert result.unavailable == ()


def test_no_more_tasks_are_fetched_at_once_than_allowed(
    connect: Any, server: Any, reply: Any, finished: Any, task: Any
) -> None:
    lock, running, too_many = threading.Lock(), 0, threading.Event()

    def counted(connection: Any, request: Any) -> bool:
        nonlocal running
        with lock:
            running += 1
            if running > 3:
                too_many.set()
        too_many.wait(0.02)  # time for a fourth to come, if the client sends one
        with lock:
            running -= 1
        name = request.path.rpartition("/")[2]
        return reply.json(task(name, targets(20)[int(name[1:])]))(connection, request)

    for number in range(20):
        server.on("GET", f"/jobs/j1/t{number}", counted, counted)
    finished(targets(20))
    assert len(connect(max_concurrency=3).submit_and_wait(JobRequest(targets=targets(20))).tasks) == 20
    assert not too_many.is_set()


def test_results_are_in_the_order_of_the_targets_whatever_the_order_of_the_tasks(
    client: Any, server: Any, reply: Any, finished: Any
) -> None:
    wanted = [
        "https://example.com/b",
        "https://EXAMPLE.com",
        "https://example.com/a",
        "https://example.com/b",
        "https://example.com/ü",
    ]
    echoed = [
        "https://example.com/%C3%BC",
        "https://example.com/b",
        "https://example.com/a",
        "https://example.com/",
        "https://example.com/b",
    ]
    finished(echoed)
    result = client.submit_and_wait(JobRequest(targets=wanted))
    assert [task.url for task in result.tasks] == [
        "https://example.com/b",
        "https://example.com/",
        "https://example.com/a",
        "https://example.com/b",
        "https://example.com/%C3%BC",
    ]
    assert len({task.task_id for task in result.tasks}) == 5


def test_results_of_a_plugin_job_are_complete(client: Any, server: Any, finished: Any) -> None:
    finished(["google/search", "google/search"])
    request = JobRequest(plugin=PluginRequest(key="google/search", params=[{"q": "a"}, {"q": "b"}]))
    assert [task.task_id for task in client.submit_and_wait(request).tasks] == ["t0", "t1"]


def test_uncertain_submission_raises_at_once(client: Any, server: Any, reply: Any) -> None:
    server.on("POST", "/jobs", reply.lost)
    with pytest.raises(SubmissionUncertainError):
        client.submit_and_wait(JobRequest(targets=targets(1)))
    assert [request.method for request in server.requests] == ["POST"]


def test_timeout_error_has_the_id_of_the_paid_job(client: Any, server: Any, reply: Any, job: Any, quick: Any) -> None:
    server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": ["t0"]}))
    server.on("GET", "/jobs/j1", reply.json(job("j1", "pending")))
    with pytest.raises(JobTimeoutError) as caught:
        client.submit_and_wait(JobRequest(targets=targets(1)), timeout=0.05, backoff=quick)
    assert caught.value.job_id == "j1"
    assert server.count("DELETE") == 0


def test_error_while_waiting_has_the_id_of_the_paid_job(client: Any, server: Any, reply: Any) -> None:
    server.on("POST", "/jobs", reply.json({"JobID": "j1"})).on("GET", "/jobs/j1", reply.error(401))
    with pytest.raises(AuthenticationError) as caught:
        client.submit_and_wait(JobRequest(targets=targets(1)))
    assert caught.value.job_id == "j1"


async def test_canceled_asyncio_wait_does_not_cancel_the_job(
    server: Any, reply: Any, job: Any, token: str, quick: Any
) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1", "pending")))
    polled = asyncio.Event()
    async with AsyncScrapeDoAsyncAPIClient(token, base_url=server.url) as client:
        wait = asyncio.create_task(client.wait_for_job("j1", backoff=quick, on_poll=lambda _: polled.set()))
        await asyncio.wait_for(polled.wait(), 10)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
    assert server.count("DELETE") == 0


def test_hundreds_of_tasks_are_fetched_over_as_many_connections_as_are_used_at_once(
    client: Any, server: Any, finished: Any
) -> None:
    finished(targets(300))
    result = client.submit_and_wait(JobRequest(targets=targets(300)))
    assert [task.url for task in result.tasks] == targets(300)
    assert server.connections <= client.max_concurrency


def fetched(job: JobDetails, wanted: Sequence[str], tasks: dict[str, Any], known: Sequence[str] = ()) -> JobResult:
    """Fetch these tasks without a socket, and return the result."""
    operations = Operations(base_url="https://q.scrape.do", token="x", retry=RetryPolicy())
    fetching = operations.fetch_tasks(job, wanted, task_ids=known)
    step = next(fetching)
    paths = [next(operation).path for operation in step.operations]
    try:
        fetching.send([tasks[path.rpartition("/")[2]] for path in paths])
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("fetching asked for more than its tasks")


@given(
    st.lists(st.sampled_from(targets(4)), min_size=1, max_size=8),
    st.randoms(),
    st.sets(st.integers(0, 7)),
    st.booleans(),
    st.booleans(),
)
def test_every_task_is_in_the_result_once_and_in_order(
    wanted: list[str], shuffle: random.Random, lost: set[int], listed: bool, submitted: bool
) -> None:
    order = list(range(len(wanted)))
    shuffle.shuffle(order)
    urls = {f"t{number}": wanted[number] for number in order}
    summaries = [{"TaskID": task_id, "URL": url, "Status": "success"} for task_id, url in urls.items()]
    job = JobDetails.model_validate({"JobID": "j1", "TaskIDs": list(urls), "Tasks": summaries if listed else None})
    tasks: dict[str, Any] = {
        task_id: NotFoundError("gone", status_code=404, detail="gone", job_id="j1")
        if listed and int(task_id[1:]) in lost
        else TaskDetails.model_validate({"JobID": "j1", "TaskID": task_id, "URL": url, "Status": "success"})
        for task_id, url in urls.items()
    }
    result = fetched(job, wanted, tasks, list(urls) if submitted else ())
    ids = [task.task_id for task in result.tasks] + [task.task_id for task in result.unavailable]
    assert sorted(ids) == sorted(urls)
    if not result.unavailable:
        assert [task.url for task in result.tasks] == wanted
    positions = [wanted.index(task.url) for task in result.tasks if wanted.count(task.url) == 1]
    assert positions == sorted(positions)
