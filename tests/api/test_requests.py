"""Requests: every rule is checked before sending, and the body has the names of the service."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from scrapedo_dagster.api import (
    BrowserAction,
    ClickAction,
    CustomAction,
    ExecuteAction,
    FillAction,
    JobRequest,
    JobsQuery,
    PluginRequest,
    RenderOptions,
    ScrapeOptions,
    ScreenShotAction,
    ScrollToAction,
    ScrollXAction,
    ScrollYAction,
    WaitAction,
    WaitForRequestCompletionAction,
    WaitSelectorAction,
)

TARGET = "https://example.com/a"
ACTIONS: TypeAdapter[Any] = TypeAdapter(BrowserAction)


def job(**options: Any) -> JobRequest:
    return JobRequest(**{"targets": [TARGET], **options})


def render(**options: Any) -> RenderOptions:
    return RenderOptions(**options)


BROKEN = [
    # How many targets, and which.
    (job, {"targets": []}, ["targets", "got 0", "1 to 1000"]),
    (job, {"targets": [TARGET] * 1001}, ["targets", "got 1001", "1 to 1000"]),
    (job, {"targets": [TARGET, "ftp://example.com/a"]}, ["targets.1", "'ftp://example.com/a'", "http or https"]),
    (job, {"targets": ["example.com"]}, ["targets.0", "'example.com'", "http or https"]),
    (job, {"targets": ["//example.com/a"]}, ["targets.0", "'//example.com/a'", "http or https"]),
    (job, {"targets": ["javascript:alert(1)"]}, ["targets.0", "http or https"]),
    (job, {"targets": ["https://"]}, ["targets.0", "'https://'", "no host"]),
    (job, {"targets": ["https://a b.com"]}, ["targets.0", "'https://a b.com'", "white space"]),
    (job, {"targets": ["https://a.com/\n"]}, ["targets.0", r"'https://a.com/\n'", "white space"]),
    (job, {"targets": ["https://a.com:99999/"]}, ["targets.0", "99999", "not a valid URL"]),
    (job, {"targets": ["http://[::1"]}, ["targets.0", "'http://[::1'", "not a valid URL"]),
    (job, {"targets": [7]}, ["targets.0", "got 7", "string"]),
    (job, {"targets": TARGET}, ["targets", TARGET, "tuple"]),
    (job, {"targets": None}, ["exactly one of targets and plugin", "neither"]),
    (job, {"plugin": PluginRequest(key="a/b", params=[{}])}, ["exactly one of targets and plugin", "both"]),
    # Choices.
    (job, {"method": "get"}, ["method", "'get'", "'GET'"]),
    (job, {"device": "watch"}, ["device", "'watch'", "'desktop'"]),
    (job, {"output": "pdf"}, ["output", "'pdf'", "'markdown'"]),
    (job, {"regional_geo_code": "moon", "super": True}, ["regional_geo_code", "'moon'", "'europe'"]),
    # Ranges.
    (job, {"session_id": -1}, ["session_id", "-1", "greater than or equal to 0"]),
    (job, {"session_id": 1_000_001}, ["session_id", "1000001", "less than or equal to 1000000"]),
    (job, {"session_id": "sticky"}, ["session_id", "'sticky'", "integer"]),
    (job, {"timeout": 4_999}, ["timeout", "4999", "greater than or equal to 5000"]),
    (job, {"timeout": 120_001}, ["timeout", "120001", "less than or equal to 120000"]),
    (job, {"retry_timeout": 4_999}, ["retry_timeout", "4999", "greater than or equal to 5000"]),
    (job, {"retry_timeout": 55_001}, ["retry_timeout", "55001", "less than or equal to 55000"]),
    (render, {"custom_wait": -1}, ["custom_wait", "-1", "greater than or equal to 0"]),
    (render, {"custom_wait": 35_001}, ["custom_wait", "35001", "less than or equal to 35000"]),
    (render, {"wait_until": "idle"}, ["wait_until", "'idle'", "'networkidle0'"]),
    (render, {"wait_selector": ""}, ["wait_selector", "''", "at least 1"]),
    # Countries.
    (job, {"geo_code": "usa"}, ["geo_code", "'usa'", "two letters"]),
    (job, {"geo_code": "u1"}, ["geo_code", "'u1'", "two letters"]),
    (job, {"geo_code": "ß"}, ["geo_code", "'ß'", "two letters"]),
    (
        job,
        {"geo_code": "us", "regional_geo_code": "europe", "super": True},
        ["geo_code='us'", "regional_geo_code='europe'", "cannot be combined"],
    ),
    (job, {"regional_geo_code": "europe"}, ["regional_geo_code='europe'", "needs super=True"]),
    (job, {"regional_geo_code": "asia", "super": False}, ["regional_geo_code='asia'", "needs super=True"]),
    # What excludes what.
    (job, {"headers": {"A": "1"}, "set_cookies": "a=1"}, ["headers", "set_cookies", "cannot be combined"]),
    (job, {"render": {}, "retry_timeout": 6_000}, ["retry_timeout=6000", "render", "cannot be combined"]),
    (job, {"webhook_url": "example.com/hook"}, ["webhook_url", "'example.com/hook'", "http or https"]),
    (render, {"return_json": True, "screenshot": True, "full_screenshot": True}, ["full_screenshot=True", "only one"]),
    (
        render,
        {"return_json": True, "full_screenshot": True, "particular_screenshot": "#a"},
        ["particular_screenshot='#a'", "only one"],
    ),
    (render, {"screenshot": True}, ["screenshot=True", "needs return_json=True"]),
    (render, {"full_screenshot": True, "return_json": False}, ["full_screenshot=True", "needs return_json=True"]),
    (render, {"particular_screenshot": "#a"}, ["particular_screenshot='#a'", "needs return_json=True"]),
    (render, {"show_frames": True}, ["show_frames=True", "needs return_json=True"]),
    (render, {"show_websocket_requests": True}, ["show_websocket_requests=True", "needs return_json=True"]),
    (
        render,
        {"block_resources": True, "screenshot": True, "return_json": True},
        ["block_resources=True", "screenshot=True"],
    ),
    (
        render,
        {"block_resources": True, "play_with_browser": [WaitAction(timeout=1)]},
        ["block_resources=True", "play_with_browser"],
    ),
    (
        render,
        {"particular_screenshot": "#a", "return_json": True, "play_with_browser": [WaitAction(timeout=1)]},
        ["particular_screenshot='#a'", "play_with_browser", "ScreenShot action"],
    ),
    # Actions.
    (ClickAction, {"selector": ""}, ["selector", "''", "at least 1"]),
    (WaitAction, {"timeout": -1}, ["timeout", "-1", "greater than or equal to 0"]),
    (WaitAction, {}, ["Timeout", "required"]),
    (WaitSelectorAction, {"wait_selector": "#a", "timeout": -5}, ["timeout", "-5"]),
    (ScrollXAction, {"value": 1.5}, ["value", "1.5", "integer"]),
    (ScrollYAction, {"value": "far"}, ["value", "'far'", "integer"]),
    (ScrollToAction, {"selector": ""}, ["selector", "at least 1"]),
    (FillAction, {"selector": "", "value": "x"}, ["selector", "at least 1"]),
    (ExecuteAction, {"execute": ""}, ["execute", "at least 1"]),
    (
        ScreenShotAction,
        {"full_screenshot": True, "particular_screenshot": "#a"},
        ["full_screenshot=True", "particular_screenshot='#a'", "two ScreenShot actions"],
    ),
    (WaitForRequestCompletionAction, {"url_pattern": "", "timeout": 1}, ["url_pattern", "at least 1"]),
    (WaitForRequestCompletionAction, {"url_pattern": "*", "timeout": -1}, ["timeout", "-1"]),
    (render, {"play_with_browser": [{"action": "Hover"}]}, ["play_with_browser.0", "'Hover'", "'Click'"]),
    (render, {"play_with_browser": [{"selector": "#a"}]}, ["play_with_browser.0", "action"]),
    (CustomAction, {"name": ""}, ["name", "at least 1"]),
    # Misspelt options would be paid for and have no effect.
    (job, {"geocode": "us"}, ["geocode", "not permitted"]),
    (render, {"custom_wiat": 5}, ["custom_wiat", "not permitted"]),
    (ClickAction, {"selector": "#a", "timeout": 5}, ["timeout", "not permitted"]),
    # Plugins.
    (PluginRequest, {"key": "", "params": [{}]}, ["key", "''", "google/search"]),
    (PluginRequest, {"key": 5, "params": [{}]}, ["key", "5", "valid string"]),
    (PluginRequest, {"key": "a/b", "params": []}, ["params", "0", "1 to 1000"]),
    (PluginRequest, {"key": "a/b", "params": [{}] * 1001}, ["params", "1001", "1 to 1000"]),
    (
        job,
        {
            "targets": None,
            "geo_code": "us",
            "plugin": {"key": "amazon/pdp", "params": [{"asin": "B0", "geocode": "de", "zipcode": "1"}]},
        },
        ["geo_code='us'", "geocode 'de'", "plugin.params[0]", "cannot be combined"],
    ),
    # Listings.
    (JobsQuery, {"page_size": 0}, ["page_size", "0", "greater than or equal to 1"]),
    (JobsQuery, {"page_size": 101}, ["page_size", "101", "less than or equal to 100"]),
    (JobsQuery, {"page": 0}, ["page", "got 0", "greater than or equal to 1"]),
    (JobsQuery, {"status": "done"}, ["status", "'done'", "'canceled'"]),
    (JobsQuery, {"sort": "newest"}, ["sort", "'newest'", "'start_time_desc'"]),
    (JobsQuery, {"start_from": "2026-01-01T00:00:00"}, ["start_from", "2026-01-01", "timezone"]),
    (
        JobsQuery,
        {"start_from": "2026-01-02T00:00:00Z", "start_to": "2026-01-01T00:00:00Z"},
        ["start_from=2026-01-02", "start_to=2026-01-01", "after"],
    ),
]


@pytest.mark.parametrize(
    ("build", "options", "says"), BROKEN, ids=[f"{b.__name__}-{i}-{'-'.join(o)}" for i, (b, o, _) in enumerate(BROKEN)]
)
def test_broken_rule_is_named_with_its_field_and_its_value(
    build: Any, options: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**options)
    for words in says:
        assert words in str(caught.value)


def test_all_broken_rules_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        job(timeout=1, session_id=-1, geo_code="usa")
    assert caught.value.error_count() == 3
    with pytest.raises(ValidationError, match=r"regional_geo_code='asia' needs super=True; .*retry_timeout=6000"):
        job(regional_geo_code="asia", retry_timeout=6000, render={})


@pytest.mark.parametrize(
    "options",
    [
        {"targets": [TARGET]},
        {"targets": [TARGET] * 1000},
        {
            "targets": [
                "http://example.com",
                "https://user:pw@example.com:8443/a?b=c#d",
                "https://пример.рф/ü",
                "http://[::1]/",
            ]
        },
        {"session_id": 0},
        {"session_id": 1_000_000},
        {"timeout": 5_000, "retry_timeout": 5_000},
        {"timeout": 120_000, "retry_timeout": 55_000},
        {"regional_geo_code": "europe", "super": True},
        {"headers": {}, "set_cookies": "a=1"},
        {"headers": {"A": "1"}, "set_cookies": ""},
        {"render": {"custom_wait": 0}},
        {"render": {"custom_wait": 35_000, "block_resources": True}},
        {"render": {"particular_screenshot": "#a", "return_json": True, "block_resources": False}},
        {"render": {"play_with_browser": [], "block_resources": True}},
        {"targets": None, "geo_code": "us", "plugin": {"key": "a/b", "params": [{"q": "x"}] * 1000}},
        {"targets": None, "super": True, "plugin": {"key": "a/b", "params": [{"geocode": "us"}]}},
    ],
    ids=lambda options: "-".join(options),
)
def test_limits_themselves_are_allowed(options: dict[str, Any]) -> None:
    assert job(**options).to_wire()


@given(st.sampled_from(["method", "body", "geo_code", "render", "timeout", "super", "plugin", "session_id"]))
def test_unset_option_is_not_sent(name: str) -> None:
    wire = {"Targets": [TARGET]}
    assert job().to_wire() == wire
    assert job(**{name: None}).to_wire() == wire


def test_country_is_sent_in_lower_case() -> None:
    assert job(geo_code="US").to_wire()["GeoCode"] == "us"


@given(st.integers(0, 1_000_000))
def test_session_id_is_sent_as_text(number: int) -> None:
    request = job(session_id=number)
    assert request.session_id == number
    assert request.to_wire()["SessionID"] == str(number)


def test_targets_are_sent_unchanged_in_order_with_duplicates() -> None:
    targets = [
        "HTTPS://Example.com",
        "https://example.com/%7Ea?b=%20",
        "https://example.com:443/ü",
        "HTTPS://Example.com",
    ]
    assert JobRequest(targets=targets).to_wire()["Targets"] == targets


EVERY_ACTION = [
    (ClickAction(selector="#a"), {"Action": "Click", "Selector": "#a"}),
    (WaitAction(timeout=5), {"Action": "Wait", "Timeout": 5}),
    (WaitSelectorAction(wait_selector="#a"), {"Action": "WaitSelector", "WaitSelector": "#a"}),
    (
        WaitSelectorAction(wait_selector="#a", timeout=0),
        {"Action": "WaitSelector", "WaitSelector": "#a", "Timeout": 0},
    ),
    (ScrollXAction(value=-10), {"Action": "ScrollX", "Value": -10}),
    (ScrollYAction(value=10), {"Action": "ScrollY", "Value": 10}),
    (ScrollToAction(selector="#a"), {"Action": "ScrollTo", "Selector": "#a"}),
    (FillAction(selector="#a", value=""), {"Action": "Fill", "Selector": "#a", "Value": ""}),
    (ExecuteAction(execute="1 + 1"), {"Action": "Execute", "Execute": "1 + 1"}),
    (ScreenShotAction(), {"Action": "ScreenShot"}),
    (ScreenShotAction(full_screenshot=True), {"Action": "ScreenShot", "fullScreenShot": True}),
    (ScreenShotAction(particular_screenshot="#a"), {"Action": "ScreenShot", "particularScreenShot": "#a"}),
    (
        WaitForRequestCompletionAction(url_pattern="/api/*", timeout=9),
        {"Action": "WaitForRequestCompletion", "UrlPattern": "/api/*", "Timeout": 9},
    ),
]


@pytest.mark.parametrize(("action", "wire"), EVERY_ACTION, ids=[str(wire) for _, wire in EVERY_ACTION])
def test_action_is_sent_as_documented_and_can_be_read_back(action: Any, wire: dict[str, Any]) -> None:
    assert RenderOptions(play_with_browser=[action]).to_wire()["PlayWithBrowser"] == [wire]
    assert ACTIONS.validate_python(wire) == action
    assert ACTIONS.validate_python(action.model_dump()) == action


def test_custom_action_is_sent_unchecked() -> None:
    action = CustomAction(name="Hover", arguments={"Selector": "#menu", "Timeout": None, "Deep": {"a": [1]}})
    assert RenderOptions(play_with_browser=[action]).to_wire() == {
        "PlayWithBrowser": [{"Action": "Hover", "Selector": "#menu", "Timeout": None, "Deep": {"a": [1]}}]
    }


def test_request_can_be_stored_under_its_python_names() -> None:
    request = job(
        session_id=5, render=RenderOptions(play_with_browser=[CustomAction(name="Hover"), ClickAction(selector="#a")])
    )
    assert JobRequest.model_validate(request.model_dump()) == request
    assert JobRequest.model_validate_json(request.model_dump_json()) == request


EVERYTHING = {
    "targets": [TARGET, TARGET],
    "method": "POST",
    "body": "a=1",
    "geo_code": "us",
    "super": True,
    "headers": {"X-A": "1"},
    "forward_headers": True,
    "session_id": 7,
    "device": "mobile",
    "timeout": 5_000,
    "disable_retry": True,
    "transparent_response": True,
    "disable_redirection": True,
    "output": "markdown",
    "webhook_url": "https://example.com/hook",
    "webhook_headers": {"X-S": "2"},
    "render": {
        "block_resources": False,
        "wait_until": "networkidle2",
        "custom_wait": 100,
        "wait_selector": "#b",
        "play_with_browser": [{"action": "Click", "selector": "#a"}],
        "return_json": True,
        "show_websocket_requests": True,
        "show_frames": True,
        "screenshot": True,
    },
}
WIRE = {
    "Targets": [TARGET, TARGET],
    "Method": "POST",
    "Body": "a=1",
    "GeoCode": "us",
    "Super": True,
    "Headers": {"X-A": "1"},
    "ForwardHeaders": True,
    "SessionID": "7",
    "Device": "mobile",
    "Timeout": 5_000,
    "DisableRetry": True,
    "TransparentResponse": True,
    "DisableRedirection": True,
    "Output": "markdown",
    "WebhookURL": "https://example.com/hook",
    "WebhookHeaders": {"X-S": "2"},
    "Render": {
        "BlockResources": False,
        "WaitUntil": "networkidle2",
        "CustomWait": 100,
        "WaitSelector": "#b",
        "PlayWithBrowser": [{"Action": "Click", "Selector": "#a"}],
        "ReturnJSON": True,
        "ShowWebsocketRequests": True,
        "ShowFrames": True,
        "Screenshot": True,
    },
}


def test_request_is_sent_with_the_names_of_the_service() -> None:
    assert JobRequest(**EVERYTHING).to_wire() == WIRE


def test_options_that_exclude_others_have_the_names_of_the_service_too() -> None:
    request = job(
        regional_geo_code="europe",
        super=True,
        set_cookies="a=1; b=2",
        retry_timeout=6_000,
    )
    assert request.to_wire() == {
        "Targets": [TARGET],
        "RegionalGeoCode": "europe",
        "Super": True,
        "SetCookies": "a=1; b=2",
        "RetryTimeout": 6_000,
    }
    assert render(return_json=True, full_screenshot=True).to_wire() == {"ReturnJSON": True, "FullScreenshot": True}
    assert render(return_json=True, particular_screenshot="#a").to_wire() == {
        "ReturnJSON": True,
        "ParticularScreenshot": "#a",
    }
    assert job(render=RenderOptions()).to_wire()["Render"] == {}  # its presence turns the browser on


def test_body_copied_from_the_documentation_can_be_validated_as_it_is() -> None:
    assert JobRequest.model_validate(WIRE) == JobRequest(**EVERYTHING)
    assert JobRequest.model_validate(WIRE).to_wire() == WIRE


def test_no_option_of_the_service_is_missing() -> None:
    ours = {field.alias for field in JobRequest.model_fields.values()}
    assert ours == {*WIRE, "RegionalGeoCode", "SetCookies", "RetryTimeout", "Plugin"}
    assert {field.alias for field in RenderOptions.model_fields.values()} == {
        *WIRE["Render"],  # type: ignore[misc]
        "FullScreenshot",
        "ParticularScreenshot",
    }


def test_options_become_a_job_with_its_targets() -> None:
    options = ScrapeOptions(**{name: value for name, value in EVERYTHING.items() if name != "targets"})
    assert options.job([TARGET, TARGET]) == JobRequest(**EVERYTHING)
    assert options.job(url for url in [TARGET]).targets == (TARGET,)
    with pytest.raises(ValidationError, match="targets"):
        options.job([])
    with pytest.raises(ValidationError, match=TARGET) as caught:
        options.job(TARGET)  # one text, which is also many letters
    assert caught.value.error_count() == 1


def test_request_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        job().timeout = 1  # type: ignore[misc]


def test_query_is_sent_in_lower_snake_case_with_times_in_utc() -> None:
    query = JobsQuery(
        page=2,
        status="error",
        start_from=datetime(2026, 1, 1, 2, 30, 0, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        start_to=datetime(2026, 1, 2, 0, 0, 0, 1, tzinfo=timezone.utc),
        sort="start_time_asc",
    )
    assert query.to_params() == {
        "page_size": "100",
        "page": "2",
        "status": "error",
        "start_from": "2025-12-31T21:00:00Z",
        "start_to": "2026-01-02T00:00:01Z",
        "sort": "start_time_asc",
    }
    assert JobsQuery().to_params() == {"page_size": "100", "page": "1"}


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()),
    st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_rounding_to_seconds_excludes_no_time_within_the_limits(start: datetime, length: timedelta) -> None:
    end = start.astimezone(timezone.utc) + length
    params = JobsQuery(start_from=start, start_to=end).to_params()
    low, high = (
        datetime.strptime(params[name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        for name in ("start_from", "start_to")
    )
    assert low <= start
    assert end <= high
    assert (high - low) - length < timedelta(seconds=2)
