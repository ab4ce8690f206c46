"""The public SDK, scrape-do-python 0.3.1, works with the emulator unchanged.

Every test runs with its synchronous and with its asyncio client.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from scrape_do.async_api import AsyncScrapeDoAsyncAPIClient, PollingStrategy, ScrapeDoAsyncAPIClient
from scrape_do.async_api import exceptions as errors
from scrape_do.async_api.models.parameters import JobCreationRequest, JobListQueryParameters, RenderParameters
from scrape_do.exceptions import APIConnectionError
from scrape_do.models.browser_actions import ClickAction, ScreenShotAction

from scrapedo_dagster.emulator import Emulator

QUICK = PollingStrategy(initial_interval=0.1, max_interval=0.1, jitter=False, max_wait=20)
GATEWAY_ERRORS = {"kind": "status", "status": 503, "body": "html"}


class Sdk:
    """One of the two clients, with blocking methods."""

    def __init__(self, client_class: Any, emulator: Emulator, **options: Any) -> None:
        self.emulator = emulator
        # The SDK's own way to another server: a class of one's own with another BASE_URL.
        pointed = type(client_class.__name__, (client_class,), {"BASE_URL": emulator.base_url})
        self._client = pointed(**{"api_token": emulator.token, "retry_backoff": 0.0, "verify": False, **options})

    async def __call__(self, method: str, /, *arguments: Any, **options: Any) -> Any:
        result = getattr(self._client, method)(*arguments, **options)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        await self("aclose" if hasattr(self._client, "aclose") else "close")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(token="sdk-token", speed=1000.0) as emulator:
        yield emulator


@pytest.fixture(params=[ScrapeDoAsyncAPIClient, AsyncScrapeDoAsyncAPIClient], ids=["sync", "asyncio"])
async def connect(request: pytest.FixtureRequest, emulator: Emulator) -> Any:
    """`connect(**options)`: a client of the emulator."""
    clients: list[Sdk] = []

    def connector(**options: Any) -> Sdk:
        clients.append(Sdk(request.param, emulator, **options))
        return clients[-1]

    yield connector
    for client in clients:
        await client.close()


@pytest.fixture
def sdk(connect: Callable[..., Sdk]) -> Sdk:
    return connect()


async def test_a_job_from_creation_to_content(sdk: Sdk, site: Any) -> None:
    urls = [f"{site.url}/umlaut", f"{site.url}/binary", f"{site.url}/status/404"]
    created = await sdk("create_job", targets=urls, timeout=60000, session_id=7, geo_code="US")
    assert len(created.task_ids) == 3
    assert created.message
    job = await sdk("wait_for_job", created.job_id, strategy=QUICK)
    assert (job.is_terminal, job.is_success, job.canceled) == (True, True, False)
    assert job.duration >= timedelta(0)
    assert (job.acquired_concurrency, job.limit_concurrency) == (0, 0)
    assert [task.url for task in job.tasks] == urls
    text, image, missing = [await sdk("get_task", job.job_id, task_id) for task_id in job.task_ids]
    assert text.content == "<p>Zürich ☂</p>"
    assert image.base64_encoded_content
    assert image.decoded_content() == b"\x89PNG\r\n\xff\xfe\x00"
    assert (missing.is_success, missing.status_code) == (True, 404)
    assert (text.is_expired, image.is_expired) == (False, False)
    assert text.response_headers["Content-Type"] == "text/html; charset=utf-8"
    assert text.scrape_do_metadata["Credits-Used"] == "1"
    assert sdk.emulator.jobs()[0].request["SessionID"] == "7"


async def test_submit_and_wait(sdk: Sdk, site: Any) -> None:
    request = JobCreationRequest(targets=[f"{site.url}/{i}" for i in range(20)], super=True)
    result = await sdk("submit_and_wait", request, strategy=QUICK)
    assert [task.content for task in result.tasks] == ["<h1>Hello</h1>"] * 20
    assert [task.task_id for task in result.tasks] == result.job.task_ids
    assert {count.credits for count in sdk.emulator.targets().values()} == {10}


async def test_a_failed_task_raises_only_for_itself(sdk: Sdk, site: Any) -> None:
    urls = [f"{site.url}/page", "http://127.0.0.1:9/"]
    result = await sdk("submit_and_wait", targets=urls, disable_retry=True, strategy=QUICK)
    good, bad = result.tasks
    good.raise_for_status()
    with pytest.raises(errors.TaskFailedError, match="ConnectError"):
        bad.raise_for_status()
    assert bad.status_code == 502


async def test_render_with_return_json(sdk: Sdk, site: Any) -> None:
    render = RenderParameters(
        return_json=True,
        full_screenshot=True,
        play_with_browser=[ClickAction(selector="#a"), ScreenShotAction(particular_screenshot="#b")],
    )
    result = await sdk("submit_and_wait", targets=[f"{site.url}/page"], render=render, strategy=QUICK)
    page = json.loads(result.tasks[0].content)
    assert (page["statusCode"], page["content"]) == (200, "<h1>Hello</h1>")
    assert [shot["type"] for shot in page["screenShots"]] == ["FullScreenShot", "ParticularScreenShot"]
    assert result.tasks[0].scrape_do_metadata["Credits-Used"] == "5"
    flat = await sdk("submit_and_wait", targets=[f"{site.url}/page"], wait_until="load", strategy=QUICK)
    assert flat.tasks[0].content == "<h1>Hello</h1>"


async def test_every_option_arrives(sdk: Sdk, site: Any) -> None:
    result = await sdk(
        "submit_and_wait",
        targets=[f"{site.url}/echo"],
        method="POST",
        body="a=1",
        headers={"X-Mine": "1"},
        forward_headers=True,
        regional_geo_code="europe",
        super=True,
        session_id=1000000,
        device="mobile",
        timeout=5000,
        retry_timeout=5000,
        disable_retry=True,
        transparent_response=True,
        disable_redirection=True,
        output="markdown",
        webhook_url=f"{site.url}/hook",
        webhook_headers={"X-Secret": "s"},
        strategy=QUICK,
    )
    echo = json.loads(result.tasks[0].content)
    assert (echo["method"], echo["body"], echo["headers"]["X-Mine"]) == ("POST", "a=1", "1")


PLUGINS: dict[str, dict[str, Any]] = {
    "amazon/pdp": {"asin": "B000000000", "geocode": "us", "zipcode": "10001"},
    "amazon/offer-listing": {"asin": "B000000000", "geocode": "us", "zipcode": "10001"},
    "amazon/search": {"keyword": "tea", "geocode": "us", "zipcode": "10001"},
    "google/search": {"q": "tea"},
    "google/search/ai-mode": {"q": "tea"},
    "google/search/ai-overview": {"q": "tea"},
    "google/maps/search": {"q": "tea"},
    "google/maps/place": {"place_id": "a"},
    "google/maps/reviews": {"data_id": "a"},
    "google/shopping": {"q": "tea"},
    "google/news": {"q": "tea"},
    "google/trends": {"q": "tea"},
    "google/trending": {"geo": "US"},
    "google/youtube": {"search_query": "tea"},
    "google/play-store": {"q": "tea"},
    "google/play-store/product": {"product_id": "a.b"},
    "google/play-store/reviews": {"product_id": "a.b"},
    "google/flights": {
        "departure_id": "JFK",
        "arrival_id": "LHR",
        "outbound_date": "2030-01-01",
        "return_date": "2030-01-09",
    },
    "google/hotels": {"q": "london", "check_in_date": "2030-01-01", "check_out_date": "2030-01-02"},
    "google/hotels/detail": {
        "detail_token": "a",
        "check_in_date": "2030-01-01",
        "check_out_date": "2030-01-02",
    },
    "chatgpt/chat": {"q": "tea?"},
    "walmart/store": {"url": "https://www.walmart.com/ip/1"},
    "lowes/store": {"url": "https://www.lowes.com/pd/1", "zipcode": "10001", "storeid": "1"},
    "shein": {"url": "https://www.shein.com/a.html"},
}


@pytest.mark.parametrize("key", PLUGINS)
def test_a_plugin_of_the_sdk_is_accepted(shared_api: Any, key: str) -> None:
    request = JobCreationRequest.model_validate({"Plugin": {"Key": key, "Params": [PLUGINS[key]] * 2}})
    sent = request.model_dump(mode="json", by_alias=True, exclude_none=True)
    tasks = shared_api.scrape(**sent)
    assert [json.loads(task["Content"])["plugin"] for task in tasks] == [key] * 2


async def test_a_plugin_job(sdk: Sdk) -> None:
    plugin = {"Key": "google/search", "Params": [{"q": "tea"}, {"q": "coffee", "hl": "en"}]}
    result = await sdk("submit_and_wait", plugin=plugin, strategy=QUICK)
    answers = [json.loads(task.content) for task in result.tasks]
    assert [answer["params"]["q"] for answer in answers] == ["tea", "coffee"]
    assert {task.scrape_do_metadata["Credits-Used"] for task in result.tasks} == {"10"}


async def test_listing(sdk: Sdk, site: Any) -> None:
    jobs = [(await sdk("create_job", targets=[f"{site.url}/{i}"])).job_id for i in range(12)]
    for job_id in jobs:
        await sdk("wait_for_job", job_id, strategy=QUICK)
    first = await sdk("list_jobs")
    assert (first.total_count, first.total_pages, first.page_size, first.page_number) == (12, 2, 10, 1)
    query = JobListQueryParameters(page_size=5, page=3, sort="start_time_asc", status="success")
    last = await sdk("list_jobs", query)
    assert [job.job_id for job in last.jobs] == jobs[10:]
    now = sdk.emulator.now()
    assert (await sdk("list_jobs", start_from=now + timedelta(minutes=1))).jobs == []
    assert (await sdk("list_jobs", start_to=now + timedelta(minutes=1))).total_count == 12
    assert (await sdk("list_jobs", page=99)).jobs == []


async def test_canceling(sdk: Sdk, site: Any) -> None:
    site.gate.clear()
    created = await sdk("create_job", targets=[f"{site.url}/page"] * 3)
    canceled = await sdk("cancel_job", created.job_id)
    assert canceled.canceled
    assert {task.status for task in canceled.tasks} == {"canceled"}
    job = await sdk("wait_for_job", created.job_id, strategy=QUICK)
    with pytest.raises(errors.JobCanceledError):
        job.raise_for_status()
    task = await sdk("get_task", job.job_id, job.task_ids[0])
    with pytest.raises(errors.TaskCanceledError):
        task.raise_for_status()
    with pytest.raises(errors.AsyncAPINotAcceptableError) as caught:
        await sdk("cancel_job", created.job_id)
    assert caught.value.error_info.code == 406


async def test_account(sdk: Sdk, site: Any) -> None:
    me = await sdk("get_user_info")
    assert (me.total_concurrency, me.free_concurrency, me.active_jobs) == (12, 12, 0)
    assert me.available_credits == 3_500_000


async def test_polling_gives_up(sdk: Sdk, site: Any) -> None:
    site.gate.clear()
    created = await sdk("create_job", targets=[f"{site.url}/page"])
    with pytest.raises(errors.JobTimeoutError) as caught:
        await sdk("wait_for_job", created.job_id, strategy=QUICK.model_copy(update={"max_attempts": 2}))
    assert caught.value.last_status in {"queuing", "queued", "pending"}


async def test_a_job_that_fails(sdk: Sdk, site: Any) -> None:
    sdk.emulator.set_faults({"jobs": [{"end_status": "error"}]})
    with pytest.raises(errors.JobFailedError):
        await sdk("submit_and_wait", targets=[f"{site.url}/page"], strategy=QUICK)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_errors_become_the_exceptions_of_the_sdk(connect: Callable[..., Sdk], site: Any) -> None:
    sdk, stranger = connect(max_retries=0), connect(api_token="wrong")
    with pytest.raises(errors.AsyncAPINotFoundError):
        await sdk("get_job", "nope")
    with pytest.raises(errors.AsyncAPINotFoundError):
        await sdk("get_task", "nope", "nope")
    with pytest.raises(errors.AsyncAPIAuthError) as unauthorised:
        await stranger("get_user_info")
    assert "X-Token" in unauthorised.value.error_info.error
    refused = JobCreationRequest.model_construct(targets=["nonsense"])
    with pytest.raises(errors.AsyncAPIBadRequestError) as bad:
        await sdk("create_job", refused)
    assert "Targets[0]" in bad.value.error_info.error
    for fault, expected in [
        ({"kind": "status", "status": 429}, errors.AsyncAPIRateLimitError),
        ({"kind": "status", "status": 410}, errors.AsyncAPIResponseError),
        ({"kind": "status", "status": 500}, errors.AsyncAPIServerError),
        (GATEWAY_ERRORS, errors.AsyncAPIServerError),
        ({"kind": "status", "status": 200, "body": "html"}, errors.AsyncAPIUnparsableResponseError),
        ({"kind": "truncate"}, APIConnectionError),
        ({"kind": "drop"}, APIConnectionError),
    ]:
        sdk.emulator.set_faults({"calls": [fault]})
        with pytest.raises(expected):
            await sdk("get_user_info")


async def test_gone_content(sdk: Sdk, site: Any) -> None:
    sdk.emulator.set_faults({"targets": [{"kind": "gone"}]})
    with pytest.raises(errors.AsyncAPIResponseError) as caught:
        await sdk("submit_and_wait", targets=[f"{site.url}/page"], strategy=QUICK)
    assert caught.value.raw_status_code == 410
    assert "no longer available" in caught.value.error_info.error


async def test_expired_results(sdk: Sdk, site: Any) -> None:
    result = await sdk("submit_and_wait", targets=[f"{site.url}/page"], strategy=QUICK)
    sdk.emulator.advance(timedelta(days=3))
    with pytest.raises(errors.AsyncAPINotFoundError):
        await sdk("get_task", result.job.job_id, result.job.task_ids[0])


async def test_its_retries_pay_again_after_a_lost_response(sdk: Sdk, site: Any) -> None:
    """What our client must not do, and why faults can follow processing."""
    fault = {"endpoint": "create_job", "kind": "drop", "when": "after", "times": 3}
    sdk.emulator.set_faults({"calls": [fault]})
    created = await sdk("create_job", targets=[f"{site.url}/page"])
    await sdk("wait_for_job", created.job_id, strategy=QUICK)
    assert len(sdk.emulator.jobs()) == 4
    assert sdk.emulator.targets()[f"{site.url}/page"].submitted == 4


async def test_zero_times_and_nine_digits_are_read(sdk: Sdk, site: Any) -> None:
    sdk.emulator.set_faults({"wire": {"fraction_digits": 9, "times_before_end": "hidden"}})
    result = await sdk("submit_and_wait", targets=[f"{site.url}/page"], strategy=QUICK)
    assert result.tasks[0].expires_at > result.tasks[0].end_time
