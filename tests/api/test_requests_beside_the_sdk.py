"""The models of the public SDK as an independent reference for request bodies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from scrape_do.async_api.models.parameters import JobCreationRequest, JobListQueryParameters

from scrapedo_dagster.api import JobRequest, JobsQuery

TARGET = "https://example.com/a"


def as_the_sdk_sends_it(**options: Any) -> dict[str, Any]:
    return JobCreationRequest(**options).model_dump(mode="json", by_alias=True, exclude_none=True)


def as_we_send_it(**options: Any) -> dict[str, Any]:
    return JobRequest(**options).to_wire()


OPTIONS: dict[str, list[Any]] = {
    "method": ["GET", "POST", "PUT", "PATCH", "HEAD", "DELETE"],
    "body": ["", "a=1", "ü"],
    "geo_code": ["us", "GB"],
    # The SDK 0.3.1 lacks two commas in its list and refuses the documented asia, africa and oceania.
    "regional_geo_code": ["europe", "northamerica", "southamerica", "moon"],
    "super": [True, False],
    "headers": [{}, {"X-A": "1"}],
    "forward_headers": [True, False],
    "session_id": [0, 12, 1_000_000, -1, 1_000_001],
    "device": ["desktop", "mobile", "tablet", "watch"],
    "set_cookies": ["a=1; b=2"],
    "timeout": [5_000, 120_000, 4_999, 120_001],
    "retry_timeout": [5_000, 55_000, 4_999, 55_001],
    "disable_retry": [True, False],
    "transparent_response": [True, False],
    "disable_redirection": [True, False],
    "output": ["raw", "markdown", "pdf"],
    "webhook_url": ["https://example.com/hook"],
    "webhook_headers": [{"X-S": "2"}],
}
RENDER: dict[str, list[Any]] = {
    "block_resources": [True, False],
    "wait_until": ["domcontentloaded", "networkidle0", "networkidle2", "load"],
    "custom_wait": [0, 35_000, -1, 35_001],
    "wait_selector": ["#a"],
    "play_with_browser": [
        [{"action": "Click", "selector": "#a"}],
        [{"action": "Wait", "timeout": 5}],
        [{"action": "WaitSelector", "wait_selector": "#a", "timeout": 5}, {"action": "ScrollX", "value": 5}],
        [{"action": "ScrollY", "value": 5}, {"action": "ScrollTo", "selector": "#a"}],
        [{"action": "Fill", "selector": "#a", "value": "x"}, {"action": "Execute", "execute": "1"}],
        [{"action": "ScreenShot", "full_screenshot": True}, {"action": "ScreenShot", "particular_screenshot": "#a"}],
        [{"action": "WaitForRequestCompletion", "url_pattern": "*", "timeout": 1}],
        [{"action": "ScreenShot", "full_screenshot": True, "particular_screenshot": "#a"}],
        [{"action": "Wait", "timeout": -1}],
    ],
    "return_json": [True, False],
    "show_websocket_requests": [True, False],
    "show_frames": [True, False],
    "screenshot": [True, False],
    "full_screenshot": [True, False],
    "particular_screenshot": ["#a"],
}


def single_options() -> list[Any]:
    plain = [{name: value} for name, values in OPTIONS.items() for value in values]
    rendered = [{"render": {name: value}} for name, values in RENDER.items() for value in values]
    return [pytest.param(options, id=str(options)) for options in [*plain, *rendered, {"render": {}}]]


def both(options: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    sent: list[dict[str, Any] | None] = []
    for send in (as_we_send_it, as_the_sdk_sends_it):
        try:
            sent.append(send(targets=[TARGET], **options))
        except ValidationError:
            sent.append(None)
    return sent[0], sent[1]


@pytest.mark.parametrize("options", single_options())
def test_each_option_is_sent_or_refused_as_by_the_sdk(options: dict[str, Any]) -> None:
    ours, theirs = both(options)
    assert ours == theirs


def some(options: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in options.items()})


@given(some(OPTIONS), st.none() | some(RENDER))
def test_combined_options_are_sent_or_refused_as_by_the_sdk(
    options: dict[str, Any], render: dict[str, Any] | None
) -> None:
    # The SDK lets block_resources and play_with_browser pass, which the documentation forbids.
    assume(not (render and render.get("block_resources") and render.get("play_with_browser")))
    ours, theirs = both({**options, "render": render})
    assert ours == theirs


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("google/search", {"q": "dagster", "gl": "us", "hl": "en"}),
        ("amazon/pdp", {"asin": "B08N5WRWNW", "geocode": "us", "zipcode": "10001"}),
        ("amazon/search", {"keyword": "lamp", "geocode": "us", "zipcode": "10001"}),
        ("chatgpt/chat", {"q": "hello"}),
        ("google/maps/reviews", {"place_id": "p"}),
        ("walmart/store", {"url": "https://www.walmart.com/x"}),
    ],
)
def test_plugin_is_sent_as_by_the_sdk(key: str, entry: dict[str, Any]) -> None:
    plugin = {"key": key, "params": [entry]}
    ours, theirs = as_we_send_it(plugin=plugin), as_the_sdk_sends_it(plugin=plugin)
    assert set(ours["Plugin"]) == set(theirs["Plugin"])
    assert ours["Plugin"]["Key"] == theirs["Plugin"]["Key"]
    # The SDK adds its own defaults to the entry.
    assert ours["Plugin"]["Params"][0].items() <= theirs["Plugin"]["Params"][0].items()


def test_listing_query_is_sent_as_by_the_sdk() -> None:
    options: dict[str, Any] = {
        "page_size": 50,
        "page": 3,
        "status": "success",
        "start_from": "2026-01-01T01:00:00+01:00",
        "start_to": "2026-01-02T00:00:00Z",
        "sort": "start_time_asc",
    }
    theirs = JobListQueryParameters(**options).to_query_dict()
    assert JobsQuery(**options).to_params() == {name: str(value) for name, value in theirs.items()}
