"""The asyncio client adapts its concurrency to the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, RetryPolicy
from scrapedo_dagster.api.adaptive_concurrency import AdaptiveConcurrency

GOOD, BUSY = httpx.Response(200), httpx.Response(429)


@pytest.fixture
async def client(server: Any, token: str, quick: Any) -> AsyncIterator[Callable[..., AsyncScrapeDoAsyncAPIClient]]:
    made = []

    def client(**settings: Any) -> AsyncScrapeDoAsyncAPIClient:
        settings = {"retry": RetryPolicy(attempts=3, backoff=quick), "timeout": 5.0, **settings}
        made.append(AsyncScrapeDoAsyncAPIClient(token, base_url=server.url, **settings))
        return made[-1]

    yield client
    for each in made:
        await each.close()


async def test_limit_is_halved_by_429_and_timeouts_and_raised_by_successes() -> None:
    concurrency = AdaptiveConcurrency(32)
    concurrency.record_outcome(BUSY, halvings=0)
    assert concurrency.limit == 16
    concurrency.record_outcome(httpx.ReadTimeout("late"), halvings=1)
    assert concurrency.limit == 8
    for _ in range(9):  # a little more than a round, since it grows meanwhile
        concurrency.record_outcome(GOOD, halvings=2)
    assert concurrency.limit == 9
    for _ in range(2000):
        concurrency.record_outcome(GOOD, halvings=2)
    assert concurrency.limit == 32


async def test_limit_is_halved_once_for_all_requests_in_flight_and_stays_above_zero() -> None:
    concurrency = AdaptiveConcurrency(32)
    for _ in range(32):
        concurrency.record_outcome(BUSY, halvings=0)
    assert concurrency.limit == 16
    for halvings in range(1, 20):
        concurrency.record_outcome(BUSY, halvings=halvings)
    assert concurrency.limit == 1


async def test_slots_are_limited_and_assigned_in_order_of_arrival() -> None:
    concurrency = AdaptiveConcurrency(4)
    served: list[int] = []

    async def ask(number: int) -> None:
        await concurrency.acquire()
        served.append(number)

    asking = [asyncio.create_task(ask(number)) for number in range(10)]
    await asyncio.sleep(0)
    assert served == [0, 1, 2, 3]
    concurrency.record_outcome(BUSY, halvings=0)
    concurrency.release()
    concurrency.release()
    await asyncio.sleep(0)
    assert served == [0, 1, 2, 3], "two are under way, which is as many as it may be now"
    concurrency.release()
    asking[4].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert served == [0, 1, 2, 3, 5], "one that was canceled when it was served passes it on"
    for _ in range(2):
        concurrency.record_outcome(GOOD, halvings=1)
        concurrency.record_outcome(GOOD, halvings=1)
    await asyncio.sleep(0)
    assert served == [0, 1, 2, 3, 5, 6]
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    another = asyncio.create_task(concurrency.acquire())
    await asyncio.sleep(0)
    assert not another.done(), "all three slots are taken"
    concurrency.release()
    await asyncio.wait_for(another, 1)  # canceled waiters occupy no slot


async def test_lowest_priority_number_is_served_first() -> None:
    concurrency = AdaptiveConcurrency(1)
    served: list[tuple[int, str]] = []

    async def ask(turn: int, name: str) -> None:
        await concurrency.acquire(turn)
        served.append((turn, name))
        concurrency.release()

    await concurrency.acquire(9)
    asking = [asyncio.create_task(ask(turn, name)) for turn, name in [(2, "a"), (1, "b"), (2, "c"), (1, "d")]]
    await asyncio.sleep(0)
    concurrency.release()
    await asyncio.gather(*asking)
    assert served == [(1, "b"), (1, "d"), (2, "a"), (2, "c")]


async def test_other_errors_do_not_change_the_limit() -> None:
    concurrency = AdaptiveConcurrency(32)
    concurrency.record_outcome(BUSY, halvings=0)
    concurrency.record_outcome(httpx.ConnectError("refused"), halvings=1)
    assert concurrency.limit == 16


async def test_client_adjusts_the_limit_to_its_responses(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/me", reply.error(429), reply.json({}))
    connected = client(max_concurrency=8)
    await connected.get_user_info()
    assert connected.concurrency.limit == 4


async def test_client_opens_as_many_connections_as_concurrent_requests(
    client: Any, server: Any, reply: Any, task: Any
) -> None:
    connected = client(max_concurrency=4)
    full = reply.once_in_flight(4, lambda request: reply.json(task(request.path.rpartition("/")[2], "https://a.b/")))
    for number in range(40):
        server.on("GET", f"/jobs/j1/t{number}", full)

    async def fetch(number: int) -> str:
        async with connected.concurrency:
            return (await connected.get_task("j1", f"t{number}")).task_id

    assert await asyncio.gather(*map(fetch, range(40))) == [f"t{number}" for number in range(40)]
    assert server.connections == 4


@pytest.mark.parametrize(
    ("encoding", "expected"), [({}, 2), ({"Content_Encoding": "identity"}, None)], ids=["plain", "encoded"]
)
async def test_body_is_read_once_it_is_admitted(
    client: Any, server: Any, reply: Any, encoding: dict[str, str], expected: int | None
) -> None:
    server.on("GET", "/jobs/j1/t1", reply.error(503), reply.raw(200, b"{}", **encoding))
    asked: list[int | None] = []

    async def admit(length: int | None) -> None:
        asked.append(length)

    with pytest.raises(Exception, match="could not be read"):  # it has no id
        await client(retry=RetryPolicy(attempts=2)).get_task("j1", "t1", admit=admit)
    assert len(asked) == 2  # each attempt asks
    assert asked[1] == expected


async def test_client_works_after_a_body_was_not_admitted(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs/j1/t1", reply.raw(200, b"x" * 1_000_000))
    server.on("GET", "/me", reply.json({"ActiveJobs": 7}))
    connected = client(max_concurrency=1)

    async def never(_length: int | None) -> None:
        await asyncio.Event().wait()

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(connected.get_task("j1", "t1", admit=never), 0.2)
    assert (await connected.get_user_info()).active_jobs == 7
