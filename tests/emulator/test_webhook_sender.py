"""Webhooks: one POST for each task, the rule for 404 and 410, and retries of other failures."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from scrapedo_dagster.emulator import Emulator

HOUR = timedelta(hours=1)


def submit(api: Any, site: Any, *paths: str) -> dict[str, Any]:
    """A finished job whose tasks are posted to /hook."""
    targets = [f"{site.url}{path}" for path in paths or ("/page",)]
    job_id = api.create(*targets, WebhookURL=f"{site.url}/hook", WebhookHeaders={"X-Secret": "s"})
    finished: dict[str, Any] = api.finished(job_id)
    return finished


def status_of(api: Any, job: dict[str, Any]) -> str:
    return str(api.task(job["JobID"], job["TaskIDs"][0])["WebhookStatus"])


def posts(site: Any) -> list[dict[str, Any]]:
    return [request for request in site.received if request["path"] == "/hook"]


def test_each_finished_task_is_posted_once(api: Any, site: Any, eventually: Any) -> None:
    job = submit(api, site, "/page", "/status/404", "/status/500")
    eventually(lambda: len(posts(site)) == 3)
    bodies = {}
    for post in posts(site):
        assert post["method"] == "POST"
        assert post["headers"]["X-Secret"] == "s"
        assert post["headers"]["Content-Type"] == "application/json"
        body = json.loads(post["body"])
        bodies[body["TaskID"]] = body
    assert set(bodies) == set(job["TaskIDs"])
    for task_id in job["TaskIDs"]:
        eventually(lambda task_id=task_id: api.task(job["JobID"], task_id)["WebhookStatus"] == "success")
        task = api.task(job["JobID"], task_id)
        assert task["WebhookURL"] == f"{site.url}/hook"
        assert task["WebhookRequestTime"] >= task["EndTime"]
        assert {**bodies[task_id], "WebhookStatus": "success"} == task
    assert sorted(body["Status"] for body in bodies.values()) == ["error", "success", "success"]


def test_canceled_tasks_are_posted_too(api: Any, site: Any, eventually: Any) -> None:
    api.emulator.set_faults({"targets": [{"kind": "linger"}]})
    job_id = api.create(f"{site.url}/page", WebhookURL=f"{site.url}/hook")
    api.cancel(job_id)
    eventually(lambda: posts(site))
    assert json.loads(posts(site)[0]["body"])["Status"] == "canceled"


def test_a_job_header_replaces_the_default(api: Any, site: Any, eventually: Any) -> None:
    headers = {"content-type": "application/x-mine", "X-Name": "é"}
    api.create(f"{site.url}/page", WebhookURL=f"{site.url}/hook", WebhookHeaders=headers)
    eventually(lambda: posts(site))
    received = {name.lower(): value for name, value in posts(site)[0]["headers"].items()}
    assert received["content-type"] == "application/x-mine"


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://[::1]:99999/", {}),
        ("http://exa mple/", {}),
        ("http://xn--/", {}),
        (None, {"Content-Length": "5"}),
        (None, {"X-Name": "\ud800"}),
        (None, {"X-Name": "a\nb"}),
    ],
)
def test_a_delivery_that_cannot_be_sent_is_a_failed_attempt(
    api: Any, site: Any, eventually: Any, url: str | None, headers: dict[str, str]
) -> None:
    body = {"Targets": [f"{site.url}/page"], "WebhookURL": url or f"{site.url}/hook", "WebhookHeaders": headers}
    answer = api.http.post("/jobs", content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    if answer.status_code == 400:
        return  # so it is refused, which is as good
    job = api.finished(answer.json()["JobID"])

    def has_failed() -> bool:
        api.emulator.advance(HOUR / 2)
        return status_of(api, job) == "failed"

    eventually(has_failed)


@pytest.mark.parametrize("gone", [404, 410])
def test_a_gone_receiver_gets_one_more_attempt_an_hour_later(api: Any, site: Any, eventually: Any, gone: int) -> None:
    site.answers["/hook"] = [gone, gone]
    job = submit(api, site)
    eventually(lambda: len(posts(site)) == 1)
    api.emulator.advance(HOUR - timedelta(minutes=1))
    for _ in range(20):
        assert status_of(api, job) == "pending"
    assert len(posts(site)) == 1
    api.emulator.advance(timedelta(minutes=1))
    eventually(lambda: status_of(api, job) == "failed")
    api.emulator.advance(10 * HOUR)
    assert len(posts(site)) == 2
    first, second = (json.loads(post["body"])["WebhookRequestTime"] for post in posts(site))
    assert second > first


def test_a_receiver_that_recovers_within_the_hour_gets_the_delivery(api: Any, site: Any, eventually: Any) -> None:
    site.answers["/hook"] = [404, 200]
    job = submit(api, site)
    eventually(lambda: len(posts(site)) == 1)
    api.emulator.advance(HOUR)
    eventually(lambda: status_of(api, job) == "success")
    assert len(posts(site)) == 2


def test_other_failures_are_retried_after_the_configured_waits(start: Any, site: Any, eventually: Any) -> None:
    api = start(webhook_retry_seconds=(10.0, 100.0))
    site.answers["/hook"] = [500, 403, 200]
    job = submit(api, site)
    eventually(lambda: len(posts(site)) == 1)
    api.emulator.advance(timedelta(seconds=10))
    eventually(lambda: len(posts(site)) == 2)
    api.emulator.advance(timedelta(seconds=99))
    for _ in range(20):
        assert status_of(api, job) == "pending"
    api.emulator.advance(timedelta(seconds=1))
    eventually(lambda: status_of(api, job) == "success")
    assert len(posts(site)) == 3


def test_retries_end_after_the_last_wait(start: Any, site: Any, eventually: Any) -> None:
    api = start(webhook_retry_seconds=(0.0, 0.0))
    site.answers["/hook"] = [500] * 9
    job = submit(api, site)
    eventually(lambda: status_of(api, job) == "failed")
    assert len(posts(site)) == 3


def test_connection_errors_are_retried_after_the_configured_waits(start: Any, site: Any, eventually: Any) -> None:
    api = start(webhook_retry_seconds=(0.0,))
    job_id = api.create(f"{site.url}/page", WebhookURL="http://127.0.0.1:9/")
    job = api.finished(job_id)
    eventually(lambda: status_of(api, job) == "failed")
    assert api.task(job_id, job["TaskIDs"][0])["Content"] == "<h1>Hello</h1>", "the result is not affected"


def test_a_duplicate_is_the_same_post_twice(api: Any, site: Any, eventually: Any) -> None:
    api.emulator.set_faults({"webhooks": [{"kind": "duplicate", "match": "*/page"}]})
    job = submit(api, site, "/page", "/umlaut")
    eventually(lambda: len(posts(site)) == 3)
    eventually(lambda: all(api.task(job["JobID"], each)["WebhookStatus"] == "success" for each in job["TaskIDs"]))
    delivered = sorted(json.loads(post["body"])["URL"].rsplit("/", 1)[1] for post in posts(site))
    assert delivered == ["page", "page", "umlaut"]


def test_a_delayed_delivery_arrives_after_others(start: Any, site: Any, eventually: Any) -> None:
    api = start(speed=10.0, faults={"webhooks": [{"kind": "delay", "seconds": 5, "match": "*/page"}]})
    submit(api, site, "/page", "/umlaut")
    eventually(lambda: len(posts(site)) == 2)
    assert [json.loads(post["body"])["URL"].rsplit("/", 1)[1] for post in posts(site)] == ["umlaut", "page"]


def test_a_lost_delivery_is_reported_as_success(api: Any, site: Any, eventually: Any) -> None:
    api.emulator.set_faults({"webhooks": [{"kind": "lose", "match": "*/page"}]})
    job = submit(api, site, "/page", "/umlaut")
    eventually(lambda: all(api.task(job["JobID"], each)["WebhookStatus"] == "success" for each in job["TaskIDs"]))
    assert [json.loads(post["body"])["URL"].rsplit("/", 1)[1] for post in posts(site)] == ["umlaut"]


def test_a_truncated_delivery_is_retried_if_it_is_refused(start: Any, site: Any, eventually: Any) -> None:
    api = start(webhook_retry_seconds=(0.0,), faults={"webhooks": [{"kind": "truncate", "times": 1}]})
    site.answers["/hook"] = [400]
    job = submit(api, site)
    eventually(lambda: status_of(api, job) == "success")
    half, whole = (post["body"] for post in posts(site))
    assert whole[:50] == half[:50]
    assert len(half) <= len(whole) // 2
    assert json.loads(whole)["TaskID"] == job["TaskIDs"][0]


def test_waiting_deliveries_do_not_delay_stopping(site: Any, eventually: Any) -> None:
    site.answers["/hook"] = [500]
    with Emulator(speed=1000) as emulator:
        body = {"Targets": [f"{site.url}/page"], "WebhookURL": f"{site.url}/hook"}
        httpx.post(f"{emulator.base_url}/api/v1/jobs", json=body, headers={"X-Token": emulator.token})
        eventually(lambda: posts(site))
        began = time.monotonic()
    assert time.monotonic() - began < 2
