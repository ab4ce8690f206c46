"""Every documented rule of `POST /jobs`: a body that breaks it is refused with 400, which names the rule."""

from __future__ import annotations

from typing import Any

import pytest

URL = "http://127.0.0.1:9/"  # nothing listens there, so nothing leaves this machine
TARGETS = {"Targets": [URL]}
GOOGLE = {"Key": "google/search", "Params": [{"q": "tea"}]}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to do": ({}, "exactly one of Targets and Plugin"),
    "null targets": ({"Targets": None}, "exactly one of Targets and Plugin"),
    "both kinds of work": ({**TARGETS, "Plugin": GOOGLE}, "exactly one of Targets and Plugin"),
    "no targets": ({"Targets": []}, "Targets"),
    "1001 targets": ({"Targets": [URL] * 1001}, "Targets"),
    "targets is a string": ({"Targets": URL}, "Targets"),
    "a target is a number": ({"Targets": [1]}, "Targets[0]"),
    "a target without scheme": ({"Targets": [URL, "example.com"]}, "Targets[1]"),
    "a target of another scheme": ({"Targets": ["ftp://example.com/"]}, "Targets[0]"),
    "a target without host": ({"Targets": ["http:///path"]}, "Targets[0]"),
    "an impossible target": ({"Targets": ["http://exa mple.com:port/"]}, "Targets[0]"),
    "unknown method": ({**TARGETS, "Method": "OPTIONS"}, "Method"),
    "lower-case method": ({**TARGETS, "Method": "get"}, "Method"),
    "body is an object": ({**TARGETS, "Body": {}}, "Body"),
    "upper-case country": ({**TARGETS, "GeoCode": "US"}, "GeoCode"),
    "long country": ({**TARGETS, "GeoCode": "usa"}, "GeoCode"),
    "country and region": (
        {**TARGETS, "GeoCode": "us", "RegionalGeoCode": "europe", "Super": True},
        "GeoCode and RegionalGeoCode",
    ),
    "unknown region": ({**TARGETS, "RegionalGeoCode": "mars", "Super": True}, "RegionalGeoCode"),
    "region without super": ({**TARGETS, "RegionalGeoCode": "europe"}, "RegionalGeoCode needs Super"),
    "super is a string": ({**TARGETS, "Super": "true"}, "Super"),
    "headers is a list": ({**TARGETS, "Headers": []}, "Headers"),
    "a header is a number": ({**TARGETS, "Headers": {"A": 1}}, "Headers.A"),
    "cookies and headers": ({**TARGETS, "Headers": {"A": "1"}, "SetCookies": "a=1"}, "SetCookies"),
    "forward headers is a number": ({**TARGETS, "ForwardHeaders": 1}, "ForwardHeaders"),
    "session is a number": ({**TARGETS, "SessionID": 7}, "SessionID"),
    "session is a word": ({**TARGETS, "SessionID": "seven"}, "SessionID"),
    "session is negative": ({**TARGETS, "SessionID": "-1"}, "SessionID"),
    "session too large": ({**TARGETS, "SessionID": "1000001"}, "SessionID"),
    "unknown device": ({**TARGETS, "Device": "watch"}, "Device"),
    "timeout too short": ({**TARGETS, "Timeout": 4999}, "Timeout"),
    "timeout too long": ({**TARGETS, "Timeout": 120001}, "Timeout"),
    "timeout is a string": ({**TARGETS, "Timeout": "60000"}, "Timeout"),
    "timeout is a fraction": ({**TARGETS, "Timeout": 6000.5}, "Timeout"),
    "retry timeout too short": ({**TARGETS, "RetryTimeout": 4999}, "RetryTimeout"),
    "retry timeout too long": ({**TARGETS, "RetryTimeout": 55001}, "RetryTimeout"),
    "retry timeout with render": ({**TARGETS, "RetryTimeout": 5000, "Render": {}}, "RetryTimeout"),
    "disable retry is a string": ({**TARGETS, "DisableRetry": "no"}, "DisableRetry"),
    "transparent is a string": ({**TARGETS, "TransparentResponse": "no"}, "TransparentResponse"),
    "redirection is a string": ({**TARGETS, "DisableRedirection": "no"}, "DisableRedirection"),
    "unknown output": ({**TARGETS, "Output": "pdf"}, "Output"),
    "webhook is no URL": ({**TARGETS, "WebhookURL": "here"}, "WebhookURL"),
    "webhook headers is a list": ({**TARGETS, "WebhookHeaders": ["a"]}, "WebhookHeaders"),
    "render is true": ({**TARGETS, "Render": True}, "Render"),
    "unknown wait": ({**TARGETS, "Render": {"WaitUntil": "done"}}, "Render.WaitUntil"),
    "wait too long": ({**TARGETS, "Render": {"CustomWait": 35001}}, "Render.CustomWait"),
    "negative wait": ({**TARGETS, "Render": {"CustomWait": -1}}, "Render.CustomWait"),
    "two screenshots": (
        {**TARGETS, "Render": {"ReturnJSON": True, "Screenshot": True, "FullScreenshot": True}},
        "Screenshot and FullScreenshot",
    ),
    "screenshot without JSON": ({**TARGETS, "Render": {"Screenshot": True}}, "needs ReturnJSON"),
    "part of page without JSON": (
        {**TARGETS, "Render": {"ParticularScreenshot": "#a"}},
        "ParticularScreenshot needs ReturnJSON",
    ),
    "frames without JSON": ({**TARGETS, "Render": {"ShowFrames": True}}, "ShowFrames needs ReturnJSON"),
    "websockets without JSON": (
        {**TARGETS, "Render": {"ShowWebsocketRequests": True}},
        "ShowWebsocketRequests needs ReturnJSON",
    ),
    "part of page with browser": (
        {
            **TARGETS,
            "Render": {
                "ReturnJSON": True,
                "ParticularScreenshot": "#a",
                "PlayWithBrowser": [{"Action": "Wait", "Timeout": 1}],
            },
        },
        "ParticularScreenshot cannot be used with PlayWithBrowser",
    ),
    "blocked resources with screenshot": (
        {**TARGETS, "Render": {"ReturnJSON": True, "Screenshot": True, "BlockResources": True}},
        "BlockResources cannot be used with Screenshot",
    ),
    "blocked resources with browser": (
        {
            **TARGETS,
            "Render": {"BlockResources": True, "PlayWithBrowser": [{"Action": "Wait", "Timeout": 1}]},
        },
        "BlockResources cannot be used with PlayWithBrowser",
    ),
    "unknown action": ({**TARGETS, "Render": {"PlayWithBrowser": [{"Action": "Jump"}]}}, "PlayWithBrowser[0]"),
    "action without name": ({**TARGETS, "Render": {"PlayWithBrowser": [{}]}}, "PlayWithBrowser[0]"),
    "click on nothing": ({**TARGETS, "Render": {"PlayWithBrowser": [{"Action": "Click"}]}}, "Selector"),
    "endless wait": ({**TARGETS, "Render": {"PlayWithBrowser": [{"Action": "Wait"}]}}, "Timeout"),
    "two kinds in one screenshot": (
        {
            **TARGETS,
            "Render": {
                "PlayWithBrowser": [{"Action": "ScreenShot", "fullScreenShot": True, "particularScreenShot": "#a"}]
            },
        },
        "fullScreenShot and particularScreenShot",
    ),
    "plugin without key": ({"Plugin": {"Params": [{"q": "a"}]}}, "Plugin.Key"),
    "plugin without params": ({"Plugin": {"Key": "new/plugin"}}, "Plugin.Params"),
    "plugin with no entries": ({"Plugin": {"Key": "new/plugin", "Params": []}}, "Plugin.Params"),
    "1001 entries": ({"Plugin": {"Key": "new/plugin", "Params": [{}] * 1001}}, "Plugin.Params"),
    "an entry is a string": ({"Plugin": {"Key": "new/plugin", "Params": ["a"]}}, "Plugin.Params[0]"),
    "an entry lacks its query": (
        {"Plugin": {"Key": "google/search", "Params": [{"q": "tea"}, {"hl": "en"}]}},
        "Params[1]: plugin google/search requires q",
    ),
    "neither of two": (
        {"Plugin": {"Key": "google/maps/place", "Params": [{}]}},
        "requires place_id or data_cid",
    ),
    "two of exactly one": (
        {"Plugin": {"Key": "google/news", "Params": [{"q": "a", "kgmid": "b"}]}},
        "exactly one of",
    ),
    "two places for the country": (
        {
            "Plugin": {"Key": "amazon/pdp", "Params": [{"asin": "a", "geocode": "us", "zipcode": "1"}]},
            "GeoCode": "us",
        },
        "GeoCode cannot be used",
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "duplicates": {"Targets": [URL, URL]},
    "every plain option": {
        **TARGETS,
        "Method": "POST",
        "Body": "a=1",
        "RegionalGeoCode": "europe",
        "Super": True,
        "Headers": {"A": "1"},
        "ForwardHeaders": True,
        "SessionID": "1000000",
        "Device": "tablet",
        "Timeout": 120000,
        "RetryTimeout": 55000,
        "DisableRetry": True,
        "TransparentResponse": True,
        "DisableRedirection": True,
        "Output": "markdown",
    },
    "smallest numbers": {**TARGETS, "SessionID": "0", "Timeout": 5000, "RetryTimeout": 5000, "GeoCode": "us"},
    "cookies with empty headers": {**TARGETS, "Headers": {}, "SetCookies": "a=1; b=2"},
    "every browser action": {
        **TARGETS,
        "Render": {
            "WaitUntil": "networkidle2",
            "CustomWait": 35000,
            "WaitSelector": "#a",
            "ReturnJSON": True,
            "ShowFrames": True,
            "ShowWebsocketRequests": True,
            "BlockResources": False,
            "FullScreenshot": True,
            "PlayWithBrowser": [
                {"Action": "Click", "Selector": "#a"},
                {"Action": "Wait", "Timeout": 0},
                {"Action": "WaitSelector", "WaitSelector": "#a"},
                {"Action": "WaitSelector", "WaitSelector": "#a", "Timeout": 5},
                {"Action": "ScrollX", "Value": -5},
                {"Action": "ScrollY", "Value": 5},
                {"Action": "ScrollTo", "Selector": "#a"},
                {"Action": "Fill", "Selector": "#a", "Value": ""},
                {"Action": "Execute", "Execute": "1"},
                {"Action": "ScreenShot"},
                {"Action": "ScreenShot", "particularScreenShot": "#a"},
                {"Action": "WaitForRequestCompletion", "UrlPattern": "x", "Timeout": 5},
            ],
        },
    },
    "empty render": {**TARGETS, "Render": {}},
    "nulls are absent": {**TARGETS, "Plugin": None, "Render": None, "Timeout": None, "Headers": None},
    "unknown fields": {**TARGETS, "Colour": "green", "Render": {"Smell": 1}},
    "an unknown plugin": {"Plugin": {"Key": "brand/new", "Params": [{"anything": [1, 2]}]}},
    "a plugin with one geocode": {
        "Plugin": {"Key": "amazon/pdp", "Params": [{"asin": "a", "geocode": "us", "zipcode": "1"}]}
    },
    "a plugin with a country": {"Plugin": GOOGLE, "GeoCode": "us"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_rule_is_named(shared_api: Any, name: str) -> None:
    body, named = REFUSED[name]
    response = shared_api.http.post("/jobs", json=body)
    assert response.status_code == 400
    assert response.json()["Code"] == 400
    assert named in response.json()["Error"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_valid_body_is_accepted(shared_api: Any, name: str) -> None:
    response = shared_api.http.post("/jobs", json=ACCEPTED[name])
    assert response.status_code == 200, response.text
    shared_api.cancel(response.json()["JobID"])


def test_a_thousand_targets_are_accepted(shared_api: Any) -> None:
    answer = shared_api.post(Targets=[f"{URL}{i}" for i in range(1000)]).json()
    assert len(set(answer["TaskIDs"])) == 1000
    shared_api.cancel(answer["JobID"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff",
        b'{"Targets": ["http://a/"], "Timeout": NaN}',
        b'{"Plugin": {"Key": "new/one", "Params": [{"q": "\\ud800"}]}}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(shared_api: Any, content: bytes) -> None:
    response = shared_api.http.post("/jobs", content=content)
    assert response.status_code == 400
    assert response.json()["Code"] == 400


def test_the_error_contains_no_values(shared_api: Any) -> None:
    response = shared_api.post(Targets=["my-password"], SetCookies=5)
    assert "my-password" not in response.text


def test_the_first_problems_are_named_and_the_rest_counted(shared_api: Any) -> None:
    error = shared_api.post(Targets=["x"] * 9).json()["Error"]
    assert "Targets[4]" in error
    assert "Targets[5]" not in error
    assert "and 4 more" in error


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "101"}, "page_size"),
        ({"page_size": "ten"}, "page_size"),
        ({"page_size": "-1"}, "page_size"),
        ({"page": "0"}, "page"),
        ({"page": "1.5"}, "page"),
        ({"status": "done"}, "status"),
        ({"sort": "newest"}, "sort"),
        ({"start_from": "yesterday"}, "start_from"),
        ({"start_from": "2026-01-31t00:00:00z"}, "start_from"),
        ({"start_from": "2026-01-31T00:00:00+00:00"}, "start_from"),
        ({"start_to": "2026-02-31T00:00:00Z"}, "start_to"),
    ],
)
def test_an_invalid_query_is_named(shared_api: Any, params: dict[str, str], named: str) -> None:
    response = shared_api.http.get("/jobs", params=params)
    assert response.status_code == 400
    assert named in response.json()["Error"]
