"""The six operations, and the construction of clients."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from scrapedo_dagster.api import (
    AsyncScrapeDoAsyncAPIClient,
    AuthenticationError,
    JobRequest,
    NotAcceptableError,
    NotFoundError,
    ScrapeDoAsyncAPIClient,
    ServerError,
)

REQUEST = JobRequest(targets=["https://example.com/a"], geo_code="us")


def test_submission_posts_the_request_and_returns_the_new_job(client: Any, server: Any, reply: Any, token: str) -> None:
    server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": ["t1"], "Message": "queued"}, 201))
    created = client.create_job(REQUEST)
    assert (created.job_id, created.task_ids, created.message) == ("j1", ("t1",), "queued")
    request = server.received("POST", "/jobs")[0]
    assert request.json == {"Targets": ["https://example.com/a"], "GeoCode": "us"}
    assert request.headers["x-token"] == token
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("scrapedo-dagster/")
    assert "authorization" not in request.headers


def test_job_is_read_with_its_tasks(client: Any, server: Any, reply: Any, job: Any) -> None:
    server.on("GET", "/jobs/j1", reply.json(job("j1", "rotating", ("https://a.b/c",), LimitConcurrency=0)))
    found = client.get_job("j1")
    assert (found.job_id, found.status, found.is_terminal) == ("j1", "rotating", False)
    assert found.task_urls == {"t0": "https://a.b/c"}


def test_task_is_read_with_its_content(client: Any, server: Any, reply: Any, task: Any) -> None:
    server.on("GET", "/jobs/j1/t1", reply.json(task("t1", "https://a.b/c", **{"Scrape.do": {"Credits-Used": "5"}})))
    found = client.get_task("j1", "t1")
    assert (found.decoded_content(), found.status_code, found.credits_used) == (b"page of t1", 200, 5)


def test_unfinished_task_is_not_an_error(client: Any, server: Any, reply: Any, task: Any) -> None:
    server.on("GET", "/jobs/j1/t1", reply.json(task("t1", "https://a.b/c", status="queued", Content=None)))
    found = client.get_task("j1", "t1")
    assert not found.is_terminal
    assert found.decoded_content() is None


def test_account_is_read(client: Any, server: Any, reply: Any) -> None:
    account = {"TotalConcurrency": 5, "FreeConcurrency": 3, "ActiveJobs": 2, "AvaliableCredits": 990}
    server.on("GET", "/me", reply.json(account))
    me = client.get_user_info()
    assert (me.total_concurrency, me.free_concurrency, me.active_jobs, me.available_credits) == (5, 3, 2, 990)


# Canceling.


def test_canceling_returns_the_canceled_job(client: Any, server: Any, reply: Any, job: Any) -> None:
    server.on("DELETE", "/jobs/j1", reply.json(job("j1", "pending", Canceled=True)))
    assert client.cancel_job("j1").canceled
    assert (server.count("DELETE"), server.count("GET")) == (1, 0)


@pytest.mark.parametrize("state", [{"status": "canceled"}, {"status": "pending", "Canceled": True}])
def test_lost_response_to_a_cancellation_is_resolved_by_reading_the_job(
    client: Any, server: Any, reply: Any, job: Any, state: dict[str, Any]
) -> None:
    server.on("DELETE", "/jobs/j1", reply.lost, reply.error(406, "already canceled"))
    server.on("GET", "/jobs/j1", reply.json(job("j1", **state)))
    canceled = client.cancel_job("j1")
    assert canceled.job_id == "j1"
    assert canceled.canceled or canceled.status == "canceled"
    assert (server.count("DELETE"), server.count("GET")) == (2, 1)


def test_canceling_twice_is_not_an_error(client: Any, server: Any, reply: Any, job: Any) -> None:
    server.on("DELETE", "/jobs/j1", reply.json(job("j1", "canceled", Canceled=True)), reply.error(406))
    server.on("GET", "/jobs/j1", reply.json(job("j1", "canceled", Canceled=True)))
    assert client.cancel_job("j1") == client.cancel_job("j1")


@pytest.mark.parametrize("status", ["success", "error"])
def test_finished_job_cannot_be_canceled(client: Any, server: Any, reply: Any, job: Any, status: str) -> None:
    server.on("DELETE", "/jobs/j1", reply.error(406, "already finished"))
    server.on("GET", "/jobs/j1", reply.json(job("j1", status)))
    with pytest.raises(NotAcceptableError, match=r"already finished.*fetch its results instead") as caught:
        client.cancel_job("j1")
    assert caught.value.job_id == "j1"


def test_unknown_job_cannot_be_canceled(client: Any, server: Any, reply: Any) -> None:
    server.on("DELETE", "/jobs/j1", reply.error(404))
    with pytest.raises(NotFoundError, match="job j1"):
        client.cancel_job("j1")


def test_refused_cancellation_raises_the_reason(client: Any, server: Any, reply: Any) -> None:
    server.on("DELETE", "/jobs/j1", reply.error(406)).on("GET", "/jobs/j1", reply.error(503))
    with pytest.raises(ServerError) as caught:
        client.cancel_job("j1")
    assert isinstance(caught.value.__context__, NotAcceptableError)


# What a client is made of.


def test_token_comes_from_the_environment_unless_it_is_given(
    connect: Any, server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("GET", "/me", reply.json({}))
    monkeypatch.setenv("SCRAPE_DO_API_KEY", "from-the-environment")
    connect(None).get_user_info()
    connect("given").get_user_info()
    assert [request.headers["x-token"] for request in server.requests] == ["from-the-environment", "given"]


@pytest.mark.parametrize("environment", [None, ""])
def test_missing_token_error_names_the_variable(
    connect: Any, monkeypatch: pytest.MonkeyPatch, environment: str | None
) -> None:
    if environment is not None:
        monkeypatch.setenv("SCRAPE_DO_API_KEY", environment)
    for token in (None, ""):
        with pytest.raises(ValueError, match=r"pass api_token, or set the environment variable SCRAPE_DO_API_KEY"):
            connect(token)


@pytest.mark.parametrize(
    ("base_url", "says"),
    [
        ("", "base_url: '' is not an http or https URL"),
        ("q.scrape.do", "base_url: 'q.scrape.do' is not an http or https URL"),
        ("ftp://q.scrape.do", "is not an http or https URL. The service is at https://q.scrape.do"),
        ("https://", "no host"),
        ("https://q.scrape.do:0x50", "not a valid URL"),
        ("https://q.scrape.do\n", "white space"),
        ("https://user:secret@q.scrape.do", "user name or password"),
        ("ftp://user:secret@q.scrape.do", "user name or password"),
        ("https://q.scrape.do?x=1", "query or a fragment"),
        ("https://q.scrape.do#x", "query or a fragment"),
        ("https://q.scrape.do/api/v1/", "remove it"),
    ],
)
def test_invalid_base_url_is_refused(connect: Any, base_url: str, says: str) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        connect(base_url=base_url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("ending", ["", "/", "/proxy", "/proxy/"])
def test_base_url_may_have_a_path_and_a_slash_at_its_end(connect: Any, server: Any, reply: Any, ending: str) -> None:
    server._script["GET", f"{ending.rstrip('/')}/api/v1/me"] = [reply.json({"ActiveJobs": 9})]
    assert connect(base_url=server.url + ending).get_user_info().active_jobs == 9


def test_service_is_the_default_address(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRAPE_DO_API_KEY", "x")
    assert ScrapeDoAsyncAPIClient().base_url == AsyncScrapeDoAsyncAPIClient().base_url == "https://q.scrape.do"


@pytest.mark.parametrize("amount", [0, -1])
def test_client_without_concurrency_is_refused(connect: Any, amount: int) -> None:
    with pytest.raises(ValueError, match=f"max_concurrency={amount}"):
        connect(max_concurrency=amount)


def test_timeout_is_a_number_or_a_whole_httpx_timeout(connect: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.json({}))
    connect(timeout=3).get_user_info()
    connect(timeout=httpx.Timeout(3, connect=1)).get_user_info()


def test_limits_bound_the_number_of_connections(connect: Any, server: Any, reply: Any, job: Any, task: Any) -> None:
    urls = tuple(f"https://a.b/{number}" for number in range(12))
    under_way: list[str] = []
    most = 0
    server.on("POST", "/jobs", reply.json({"JobID": "j1", "TaskIDs": [f"t{i}" for i in range(12)]}))
    server.on("GET", "/jobs/j1", reply.json(job("j1", "success", urls)))
    two = reply.once_in_flight(2, lambda request: reply.json(task(request.path.rpartition("/")[2], "https://a.b/")))

    def counted(connection: Any, request: Any) -> bool:
        nonlocal most
        under_way.append(request.path)
        most = max(most, len(under_way))
        try:
            return bool(two(connection, request))
        finally:
            under_way.remove(request.path)

    for number in range(12):
        server.on("GET", f"/jobs/j1/t{number}", counted)
    client = connect(limits=httpx.Limits(max_connections=2, max_keepalive_connections=2))
    assert len(client.submit_and_wait(JobRequest(targets=urls)).tasks) == 12
    assert most == 2


def test_connections_are_reused(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.json({}))
    for _ in range(10):
        client.get_user_info()
    assert (server.count("GET"), server.connections) == (10, 1)


def test_custom_transport_is_used(connect: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"JobID": request.url.path.rpartition("/")[2], "Status": "success"})

    assert connect(transport=httpx.MockTransport(answer)).get_job("j7").job_id == "j7"


def test_blocking_client_is_closed_at_the_end_of_its_with_statement(server: Any, reply: Any, token: str) -> None:
    server.on("GET", "/me", reply.json({"ActiveJobs": 1}))
    with ScrapeDoAsyncAPIClient(token, base_url=server.url) as client:
        assert client.get_user_info().active_jobs == 1
    with pytest.raises(RuntimeError, match="closed"):
        client.get_user_info()


async def test_asyncio_client_is_closed_at_the_end_of_its_with_statement(server: Any, reply: Any, token: str) -> None:
    server.on("GET", "/me", reply.json({"ActiveJobs": 1}))
    async with AsyncScrapeDoAsyncAPIClient(token, base_url=server.url) as client:
        assert (await client.get_user_info()).active_jobs == 1
    with pytest.raises(RuntimeError, match="closed"):
        await client.get_user_info()


async def test_asyncio_listing_is_an_async_iterator(server: Any, reply: Any, token: str) -> None:
    server.on("GET", "/jobs", reply.json({"Jobs": [{"JobID": "j1"}, {"JobID": "j2"}], "TotalCount": 2}))
    async with AsyncScrapeDoAsyncAPIClient(token, base_url=server.url) as client:
        assert [job.job_id async for job in client.iter_jobs()] == ["j1", "j2"]


def test_with_statement_does_not_swallow_errors(server: Any, reply: Any, token: str) -> None:
    server.on("GET", "/me", reply.error(401))
    with pytest.raises(AuthenticationError), ScrapeDoAsyncAPIClient(token, base_url=server.url) as client:
        client.get_user_info()


def test_blocking_client_is_shared_by_threads(server: Any, reply: Any, token: str) -> None:
    server.on("GET", "/me", reply.once_in_flight(8, lambda request: reply.json({"ActiveJobs": 8})))
    with ScrapeDoAsyncAPIClient(token, base_url=server.url) as client, ThreadPoolExecutor(8) as pool:
        accounts = list(pool.map(lambda _: client.get_user_info(), range(8)))
    assert [account.active_jobs for account in accounts] == [8] * 8


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        public = [(name, method) for name, method in inspect.getmembers(client, inspect.isfunction) if name[0] != "_"]
        return {name: list(inspect.signature(method).parameters) for name, method in public}

    asyncio_only = methods(AsyncScrapeDoAsyncAPIClient)
    asyncio_only["get_task"].remove("admit")  # many are fetched at once only there
    assert methods(ScrapeDoAsyncAPIClient) == asyncio_only


def test_the_proxy_of_the_environment_is_used_and_its_exceptions_are_kept(
    connect: Any, server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("GET", "/me", reply.json({"ActiveJobs": 3}))
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert connect(base_url="http://service.invalid").get_user_info().active_jobs == 3
    assert server.received("GET")[0].headers["host"] == "service.invalid"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect().get_user_info().active_jobs == 3
