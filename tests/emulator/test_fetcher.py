"""Fetching of targets: how options of the job are applied, and how responses become results."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest


@pytest.fixture
def api(shared_api: Any) -> Any:
    """One emulator for the module; each test has its own site."""
    return shared_api


def echoed(task: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(task["Content"])
    answer["headers"] = {name.lower(): value for name, value in answer["headers"].items()}
    return answer


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_method_and_body_reach_every_target(api: Any, site: Any, method: str) -> None:
    tasks = api.scrape(f"{site.url}/echo", f"{site.url}/echo", Method=method, Body="é=1")
    for task in tasks:
        assert echoed(task)["method"] == method
        assert echoed(task)["body"] == "é=1"


def test_head_has_no_content(api: Any, site: Any) -> None:
    task = api.scrape_one(f"{site.url}/page", Method="HEAD")
    assert (task["StatusCode"], task["Content"]) == (200, "")


def test_headers_join_the_defaults(api: Any, site: Any) -> None:
    headers = echoed(api.scrape_one(f"{site.url}/echo", Headers={"X-Mine": "é"}))["headers"]
    assert headers["x-mine"].encode("latin-1").decode() == "é"
    assert headers["user-agent"].startswith("Mozilla/5.0")
    assert headers["accept-encoding"] == "gzip, deflate"


def test_given_headers_replace_the_defaults(api: Any, site: Any) -> None:
    headers = echoed(api.scrape_one(f"{site.url}/echo", Headers={"user-agent": "mine"}))["headers"]
    assert headers["user-agent"] == "mine"


def test_forwarded_headers_are_the_only_ones(api: Any, site: Any) -> None:
    headers = echoed(api.scrape_one(f"{site.url}/echo", Headers={"X-Mine": "1"}, ForwardHeaders=True))["headers"]
    assert set(headers) == {"host", "x-mine"}


def test_devices_differ_in_their_user_agent(api: Any, site: Any) -> None:
    agents = {
        echoed(api.scrape_one(f"{site.url}/echo", Device=device))["headers"]["user-agent"]
        for device in ("desktop", "mobile", "tablet")
    }
    assert len(agents) == 3


def test_cookies_are_set_and_do_not_leak_into_the_next_task(api: Any, site: Any) -> None:
    assert echoed(api.scrape_one(f"{site.url}/echo", SetCookies="a=1; b=2"))["headers"]["cookie"] == "a=1; b=2"
    followed = echoed(api.scrape_one(f"{site.url}/set-cookie"))["headers"]
    assert followed["cookie"] == "a=1; b=2", "a redirect's cookies come along"
    assert "cookie" not in echoed(api.scrape_one(f"{site.url}/echo"))["headers"]


def test_redirects_are_followed_unless_disabled(api: Any, site: Any) -> None:
    moved = f"{site.url}/redirect?to=/page"
    assert api.scrape_one(moved)["Content"] == "<h1>Hello</h1>"
    stayed = api.scrape_one(moved, DisableRedirection=True)
    assert (stayed["Status"], stayed["StatusCode"], stayed["Content"]) == ("success", 302, "moved")
    assert stayed["ResponseHeaders"]["Location"] == "/page"


def test_endless_redirects_are_a_failure(api: Any, site: Any) -> None:
    task = api.scrape_one(f"{site.url}/loop")
    assert (task["Status"], task["StatusCode"]) == ("error", 502)
    assert task["ErrorMessage"] == "more than 10 redirects"
    assert site.hits["/loop"] == 11, "one attempt"


def test_repeated_headers_become_one_string(api: Any, site: Any) -> None:
    assert api.scrape_one(f"{site.url}/cookies")["ResponseHeaders"]["Set-Cookie"] == "a=1, b=2"


def test_text_is_text_and_other_bytes_are_base64(api: Any, site: Any) -> None:
    text, image, latin = api.scrape(f"{site.url}/umlaut", f"{site.url}/binary", f"{site.url}/latin1")
    assert (text["Base64EncodedContent"], text["Content"]) == (False, "<p>Zürich ☂</p>")
    assert image["Base64EncodedContent"] is True
    assert base64.b64decode(image["Content"], validate=True) == b"\x89PNG\r\n\xff\xfe\x00"
    assert latin["Base64EncodedContent"] is True


def test_compressed_responses_are_decompressed(api: Any, site: Any) -> None:
    task = api.scrape_one(f"{site.url}/gzip")
    assert task["Content"] == "unpacked"
    assert "Content-Encoding" not in task["ResponseHeaders"]


def test_markdown_is_made_of_html_alone(api: Any, site: Any) -> None:
    paths = ("page", "latin1", "odd-charset", "binary")
    html, latin, odd, image = api.scrape(*[f"{site.url}/{path}" for path in paths], Output="markdown")
    assert html["Content"].split() == ["Hello", "====="]
    assert latin["Content"] == odd["Content"] == "**café**"
    assert image["Base64EncodedContent"] is True


@pytest.mark.parametrize(("bytes_", "options"), [(4 * 1024 * 1024, {}), (2 * 1024 * 1024, {"Super": True})])
def test_bodies_are_limited(api: Any, site: Any, bytes_: int, options: dict[str, Any]) -> None:
    fits, too_large = api.scrape(f"{site.url}/sized?bytes={bytes_}", f"{site.url}/sized?bytes={bytes_ + 1}", **options)
    assert len(fits["Content"]) == bytes_
    assert (too_large["Status"], too_large["StatusCode"]) == ("error", 502)
    assert f"larger than {bytes_ // 1024 // 1024} MB" in too_large["ErrorMessage"]
    assert too_large["Scrape.do"]["Credits-Used"] == "0"


def test_results_are_marked_as_not_rendered(api: Any, site: Any) -> None:
    task = api.scrape_one(f"{site.url}/page", Render={"WaitUntil": "load"})
    assert task["Scrape.do"]["Emulator-Rendered"] == "false"
    assert task["Content"] == "<h1>Hello</h1>"


def test_return_json_wraps_the_content(api: Any, site: Any) -> None:
    render = {
        "ReturnJSON": True,
        "Screenshot": True,
        "PlayWithBrowser": [
            {"Action": "Click", "Selector": "#a"},
            {"Action": "ScreenShot", "fullScreenShot": True},
        ],
    }
    task = api.scrape_one(f"{site.url}/page", Render=render)
    page = json.loads(task["Content"])
    assert page["statusCode"] == 200
    assert page["content"] == "<h1>Hello</h1>"
    assert [(r["action"], r["index"], r["success"]) for r in page["actionResults"]] == [
        ("Click", 0, True),
        ("ScreenShot", 1, True),
    ]
    assert [shot["type"] for shot in page["screenShots"]] == ["ScreenShot", "FullScreenShot"]
    assert all(base64.b64decode(shot["image"]).startswith(b"\x89PNG") for shot in page["screenShots"])
    assert (page["networkRequests"], page["websocketRequests"], page["frames"]) == ([], [], [])


@pytest.mark.parametrize("path", ["/broken", "/half"])
def test_an_incomplete_response_is_an_unbilled_error(api: Any, site: Any, path: str) -> None:
    task = api.scrape_one(f"{site.url}{path}")
    assert (task["Status"], task["StatusCode"]) == ("error", 502)
    assert task["ErrorMessage"]
    assert task["Scrape.do"]["Credits-Used"] == "0"
    assert "Content" not in task
    assert site.hits[path] == 3, "three attempts"


def test_a_target_that_cannot_be_reached_is_an_unbilled_error(api: Any) -> None:
    before = api.emulator.credits
    nobody, nowhere = api.scrape("http://127.0.0.1:9/", "http://no-such-host.invalid/")
    for task in (nobody, nowhere):
        assert (task["Status"], task["StatusCode"]) == ("error", 502)
        assert task["Scrape.do"]["Credits-Used"] == "0"
    assert api.emulator.credits == before


@pytest.mark.parametrize("status", [404, 410, 400])
def test_the_targets_own_error_is_a_success(api: Any, site: Any, status: int) -> None:
    task = api.scrape_one(f"{site.url}/status/{status}")
    assert (task["Status"], task["StatusCode"]) == ("success", status)
    assert site.hits[f"/status/{status}"] == 1


def test_a_failing_target_is_retried(api: Any, site: Any) -> None:
    site.answers["/flaky"] = [503, 429]
    task = api.scrape_one(f"{site.url}/flaky")
    assert (task["Status"], task["StatusCode"]) == ("success", 200)
    count = api.emulator.targets()[f"{site.url}/flaky"]
    assert (count.submitted, count.fetched, count.charged) == (1, 3, 1)


@pytest.mark.parametrize(
    ("options", "attempts", "result"),
    [
        ({}, 3, ("error", 502)),
        ({"DisableRetry": True}, 1, ("error", 502)),
        ({"TransparentResponse": True}, 1, ("success", 503)),
    ],
)
def test_failing_targets_have_the_documented_fields(
    api: Any, site: Any, options: dict[str, Any], attempts: int, result: tuple[str, int]
) -> None:
    task = api.scrape_one(f"{site.url}/status/503", **options)
    assert (task["Status"], task["StatusCode"]) == result
    assert site.hits["/status/503"] == attempts
    assert task["Scrape.do"]["Credits-Used"] == "0"


@pytest.mark.slow
def test_a_hanging_target_ends_after_its_timeout(api: Any, site: Any) -> None:
    site.gate.clear()
    jobs = [
        api.create(f"{site.url}/a", RetryTimeout=5000, DisableRetry=True),
        api.create(f"{site.url}/b", Timeout=5000),
    ]
    for job_id in jobs:
        task = api.task(job_id, api.finished(job_id)["TaskIDs"][0])
        assert (task["Status"], task["StatusCode"]) == ("error", 510)
        assert "within 5.0 s" in task["ErrorMessage"]
        assert task["Scrape.do"]["Credits-Used"] == "0"
    assert dict(site.hits) == {"/a": 1, "/b": 1}
