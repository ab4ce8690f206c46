"""Jobs and tasks: statuses, concurrency, credits, canceling, listing, expiry."""

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from scrapedo_dagster.emulator import EmulatorSettings
from scrapedo_dagster.emulator.clock import EmulatorClock


def test_a_finished_task_has_all_documented_fields(api: Any, site: Any) -> None:
    task = api.scrape_one(f"{site.url}/page")
    assert task["Status"] == "success"
    assert task["StatusCode"] == 200
    assert task["Content"] == "<h1>Hello</h1>"
    assert task["Base64EncodedContent"] is False
    assert task["ResponseHeaders"]["Content-Type"] == "text/html; charset=utf-8"
    assert task["Scrape.do"] == {"Credits-Used": "1", "Remaining-Credits": "3499999"}
    assert task["URL"] == f"{site.url}/page"
    assert str(uuid.UUID(task["TaskID"])) == task["TaskID"]
    assert task["TraceID"]
    times = [datetime.fromisoformat(task[key].replace("Z", "+00:00")) for key in ("StartTime", "EndTime")]
    assert times == sorted(times)
    assert "ErrorMessage" not in task
    assert "WebhookURL" not in task


def test_a_job_has_a_task_for_each_target_duplicates_included(api: Any, site: Any) -> None:
    urls = [f"{site.url}/a", f"{site.url}/b", f"{site.url}/a"]
    job = api.finished(api.create(*urls))
    assert [task["URL"] for task in job["Tasks"]] == urls
    assert [task["TaskID"] for task in job["Tasks"]] == job["TaskIDs"]
    assert len(set(job["TaskIDs"])) == 3
    assert job["Status"] == "success"
    assert job["Canceled"] is False
    assert job["LimitConcurrency"] == 0
    assert job["AcquiredConcurrency"] == 0
    assert job["EndTime"] >= job["StartTime"]


def test_statuses_pass_from_queuing_to_success(start: Any, site: Any) -> None:
    api = start(plan="free", queue_seconds=200.0, processing_seconds=200.0)
    site.answers["/flaky"] = [503, 503]
    job_id = api.create(f"{site.url}/flaky", f"{site.url}/b", f"{site.url}/c")
    seen_jobs: list[str] = []
    seen_tasks: set[str] = set()
    while not seen_jobs or seen_jobs[-1] != "success":
        job = api.job(job_id)
        if job["Status"] not in seen_jobs[-1:]:
            seen_jobs.append(job["Status"])
        seen_tasks |= {task["Status"] for task in job["Tasks"]}
        assert ("EndTime" in job) == (job["Status"] == "success")
    assert (seen_jobs[0], seen_jobs[-1]) == ("queuing", "success")
    assert set(seen_jobs) - {"queued"} == {"queuing", "pending", "rotating", "success"}
    assert seen_tasks == {"queuing", "queued", "pending", "rotating", "success"}


def test_an_unfinished_task_answers_200_without_content(start: Any, site: Any) -> None:
    api = start()
    site.gate.clear()
    job_id = api.create(f"{site.url}/page")
    task_id = api.job(job_id)["TaskIDs"][0]
    task = api.task(job_id, task_id)
    assert task["Status"] in {"queuing", "queued", "pending"}
    assert not {"Content", "StatusCode", "EndTime", "Scrape.do", "ResponseHeaders"} & set(task)


def test_a_job_is_success_although_all_its_tasks_failed(api: Any) -> None:
    job = api.finished(api.create("http://127.0.0.1:9/", DisableRetry=True))
    assert job["Status"] == "success"
    assert [task["Status"] for task in job["Tasks"]] == ["error"]


@pytest.mark.parametrize(("plan", "slots"), [("free", 2), ("hobby", 2), ("pro", 5), ("business", 12), ("advanced", 60)])
def test_a_plan_has_its_documented_slots(plan: Any, slots: int) -> None:
    assert EmulatorSettings(plan=plan).concurrency == slots


def test_the_pool_is_shared_and_never_exceeded(start: Any, site: Any, eventually: Any) -> None:
    api = start(plan="pro")
    site.gate.clear()
    jobs = [api.create(*[f"{site.url}/{job}/{i}" for i in range(8)]) for job in range(3)]
    eventually(lambda: site.at_once == 5)
    held = [api.job(job)["AcquiredConcurrency"] for job in jobs]
    assert held == [5, 0, 0]
    assert api.me() == {
        "TotalConcurrency": 5,
        "FreeConcurrency": 0,
        "ActiveJobs": 3,
        "AvaliableCredits": 1_250_000 - 5,
    }
    assert [api.job(job)["Status"] for job in jobs] == ["pending", "queued", "queued"]
    site.gate.set()
    for job in jobs:
        api.finished(job)
    assert site.most_at_once == 5
    eventually(lambda: api.me()["FreeConcurrency"] == 5)
    assert api.me()["ActiveJobs"] == 0


@pytest.mark.parametrize(
    ("options", "price"),
    [
        ({}, 1),
        ({"Render": {}}, 5),
        ({"Super": True}, 10),
        ({"Super": True, "Render": {"ReturnJSON": True}}, 25),
    ],
)
def test_a_task_costs_what_is_documented(start: Any, site: Any, options: dict[str, Any], price: int) -> None:
    api = start(credits=100)
    task = api.scrape_one(f"{site.url}/page", **options)
    assert task["Scrape.do"]["Credits-Used"] == str(price)
    assert task["Scrape.do"]["Remaining-Credits"] == str(100 - price)
    assert api.me()["AvaliableCredits"] == api.emulator.credits == 100 - price


@pytest.mark.parametrize(
    ("plugin", "price"),
    [
        ({"Key": "google/search", "Params": [{"q": "tea"}]}, 10),
        ({"Key": "walmart/store", "Params": [{"url": "http://w/"}]}, 1),
        ({"Key": "amazon/pdp", "Params": [{"asin": "a", "geocode": "us", "zipcode": "1", "super": True}]}, 10),
    ],
)
def test_a_plugin_repeats_its_parameters_and_costs(start: Any, plugin: dict[str, Any], price: int) -> None:
    api = start(credits=100)
    task = api.scrape_one(Plugin=plugin)
    assert api.emulator.credits == 100 - price
    assert f'"plugin": "{plugin["Key"]}"' in task["Content"]
    assert task["ResponseHeaders"] == {"Content-Type": "application/json"}
    assert task["URL"].startswith(f"https://api.scrape.do/plugin/{plugin['Key']}?")
    count = api.emulator.targets()[task["URL"]]
    assert (count.submitted, count.fetched, count.charged, count.credits) == (1, 0, 1, price)


@pytest.mark.parametrize(
    ("status", "billed"),
    [(200, 1), (204, 1), (400, 1), (404, 1), (410, 1), (401, 0), (403, 0), (429, 0), (500, 0), (502, 0), (510, 0)],
)
def test_only_the_documented_responses_are_billed(start: Any, site: Any, status: int, billed: int) -> None:
    api = start(credits=10)
    task = api.scrape_one(f"{site.url}/status/{status}", TransparentResponse=True)
    assert (task["Status"], task["StatusCode"]) == ("success", status)
    assert task["Scrape.do"]["Credits-Used"] == str(billed)
    assert api.emulator.credits == 10 - billed


def test_without_credits_a_job_is_refused_with_401(start: Any, site: Any) -> None:
    api = start(credits=1)
    api.scrape_one(f"{site.url}/page")
    refused = api.post(Targets=[f"{site.url}/page"])
    assert refused.status_code == 401
    assert "credits" in refused.json()["Error"]
    assert api.me()["AvaliableCredits"] == 0


def test_credits_are_never_negative(start: Any, site: Any) -> None:
    api = start(credits=25)
    tasks = api.scrape(*[f"{site.url}/{i}" for i in range(5)], Super=True)
    assert sorted(task["Status"] for task in tasks) == ["error"] * 3 + ["success"] * 2
    assert {task["StatusCode"] for task in tasks if task["Status"] == "error"} == {401}
    assert api.emulator.credits == 5
    assert site.hits.total() == 2


def test_canceling_ends_unfinished_tasks(start: Any, site: Any, eventually: Any) -> None:
    api = start(plan="free", credits=10)
    site.gate.clear()
    job_id = api.create(*[f"{site.url}/slow/{i}" for i in range(4)])
    eventually(lambda: site.at_once == 2)
    assert api.me()["AvaliableCredits"] == 8, "what running tasks may cost is set aside"
    answer = api.cancel(job_id)
    assert answer.status_code == 200
    job = answer.json()
    assert (job["JobID"], job["Canceled"], job["Status"]) == (job_id, True, "canceled")
    assert {task["Status"] for task in job["Tasks"]} == {"canceled"}
    assert (job["AcquiredConcurrency"], api.me()["FreeConcurrency"]) == (0, 2)
    assert api.emulator.credits == 10, "canceled tasks are not charged"
    site.gate.set()
    assert api.scrape_one(f"{site.url}/next")["Status"] == "success"
    assert set(site.hits) == {"/slow/0", "/slow/1", "/next"}


def test_a_finished_task_of_a_canceled_job_keeps_its_content(start: Any, site: Any, eventually: Any) -> None:
    api = start(faults={"targets": [{"kind": "linger", "match": "*/stuck"}]})
    job_id = api.create(f"{site.url}/page", f"{site.url}/stuck")
    done, stuck = api.job(job_id)["TaskIDs"]
    eventually(lambda: api.task(job_id, done)["Status"] == "success")
    job = api.cancel(job_id).json()
    assert [task["Status"] for task in job["Tasks"]] == ["success", "canceled"]
    assert api.task(job_id, done)["Content"] == "<h1>Hello</h1>"
    assert api.task(job_id, stuck)["EndTime"]
    assert api.emulator.targets()[f"{site.url}/stuck"].charged == 0


def test_canceling_twice_or_too_late_is_406_and_an_unknown_job_404(api: Any, site: Any) -> None:
    job_id = api.create(f"{site.url}/page")
    api.finished(job_id)
    for _ in range(2):
        late = api.cancel(job_id)
        assert (late.status_code, late.json()["Code"]) == (406, 406)
    queued = api.create(f"{site.url}/page")
    api.cancel(queued)
    assert api.cancel(queued).status_code == 406
    assert api.cancel(str(uuid.uuid4())).status_code == 404


def test_unknown_jobs_and_tasks_are_404(api: Any, site: Any) -> None:
    job_id = api.create(f"{site.url}/page")
    other = api.create(f"{site.url}/page")
    other_task = api.job(other)["TaskIDs"][0]
    for path in ("/jobs/nope", f"/jobs/{job_id}/nope", f"/jobs/{job_id}/{other_task}", "/nothing"):
        response = api.http.get(path)
        assert response.status_code == 404
        assert set(response.json()) == {"Error", "Code"}
        assert response.json()["Code"] == 404
    assert api.http.put("/jobs").json()["Code"] == 405


@pytest.mark.parametrize("token", ["wrong", "", "a-secret-toke", "a-secret-token2"])
def test_a_wrong_token_is_401_everywhere(api: Any, site: Any, token: str) -> None:
    job_id = api.create(f"{site.url}/page")
    calls = [
        ("POST", "/jobs"),
        ("GET", "/jobs"),
        ("GET", f"/jobs/{job_id}"),
        ("DELETE", f"/jobs/{job_id}"),
        ("GET", f"/jobs/{job_id}/x"),
        ("GET", "/me"),
    ]
    for method, path in calls:
        response = api.http.request(method, path, headers={"X-Token": token})
        assert (response.status_code, response.json()["Code"]) == (401, 401)
        assert "a-secret-token" not in response.text


def test_results_live_three_days_from_the_creation_of_the_job(api: Any, site: Any) -> None:
    job_id = api.create(f"{site.url}/page")
    task_id = api.finished(job_id)["TaskIDs"][0]
    task = api.task(job_id, task_id)
    expires = datetime.fromisoformat(task["ExpiresAt"].replace("Z", "+00:00"))
    started = datetime.fromisoformat(api.job(job_id)["StartTime"].replace("Z", "+00:00"))
    assert expires - started == timedelta(days=3)
    api.emulator.advance(timedelta(days=3) - timedelta(minutes=1))
    assert api.task(job_id, task_id)["Content"]
    api.emulator.advance(timedelta(minutes=1))
    assert api.http.get(f"/jobs/{job_id}/{task_id}").status_code == 404
    assert api.http.get(f"/jobs/{job_id}").status_code == 404
    assert api.cancel(job_id).status_code == 404
    assert api.list()["TotalCount"] == 0
    assert api.emulator.jobs()[0].job_id == job_id, "for tests, it is still known"
    fresh = api.create(f"{site.url}/page")
    assert [job["JobID"] for job in api.list()["Jobs"]] == [fresh]
    assert api.emulator.jobs()[0].credits == 1


def test_the_clock_does_not_move_back(api: Any) -> None:
    before = api.emulator.now()
    with pytest.raises(ValueError, match="cannot move back"):
        api.emulator.advance(timedelta(seconds=-1))
    assert before <= api.emulator.now() <= datetime.now(timezone.utc)


def test_listing_pages_through_everything_once(api: Any, site: Any) -> None:
    jobs = [api.create(f"{site.url}/{i}") for i in range(25)]
    assert api.list()["PageSize"] == 10
    pages = [api.list(page_size=10, page=page) for page in (1, 2, 3)]
    assert [len(page["Jobs"]) for page in pages] == [10, 10, 5]
    assert [job["JobID"] for page in pages for job in page["Jobs"]] == jobs[::-1]
    assert {(p["TotalCount"], p["TotalPages"], p["PageSize"]) for p in pages} == {(25, 3, 10)}
    assert [p["PageNumber"] for p in pages] == [1, 2, 3]
    past = api.list(page=4)
    assert (past["Jobs"], past["TotalCount"], past["PageNumber"]) == ([], 25, 4)
    oldest_first = api.list(sort="start_time_asc", page_size=100)
    assert [job["JobID"] for job in oldest_first["Jobs"]] == jobs


def test_a_listed_job_has_only_the_documented_fields(api: Any, site: Any) -> None:
    api.finished(api.create(f"{site.url}/page"))
    (entry,) = api.list()["Jobs"]
    assert set(entry) == {"JobID", "Status", "TaskIDs", "StartTime", "EndTime"}


def test_listing_filters_by_status_and_by_start_time(api: Any, site: Any) -> None:
    finished = api.create(f"{site.url}/page")
    api.finished(finished)
    api.emulator.advance(timedelta(hours=1))
    site.gate.clear()
    canceled, open_job = api.create(f"{site.url}/x"), api.create(f"{site.url}/y")
    api.cancel(canceled)

    def found(**params: Any) -> set[str]:
        return {job["JobID"] for job in api.list(**params)["Jobs"]}

    assert found(status="success") == {finished}
    assert found(status="canceled") == {canceled}
    assert found(status="error") == set()
    middle = (api.emulator.now() - timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found(start_from=middle) == {canceled, open_job}
    assert found(start_to=middle) == {finished}
    assert found(start_from=middle, status="canceled") == {canceled}
    exact = api.job(finished)["StartTime"]
    assert re.search(r"\.\d{6}Z$", exact)
    assert found(start_from=exact, start_to=exact) == {finished}, "the bounds are inclusive"


def test_jobs_are_recorded_as_received(api: Any, site: Any) -> None:
    job_id = api.create(f"{site.url}/page", Colour="green")
    api.finished(job_id)
    (record,) = api.emulator.jobs()
    assert record.job_id == job_id
    assert record.targets == (f"{site.url}/page",)
    assert record.request == {"Targets": [f"{site.url}/page"], "Colour": "green"}
    assert (record.status, record.canceled, record.credits) == ("success", False, 1)
    assert record.task_statuses == ("success",)


def test_a_defect_of_the_emulator_ends_the_task_and_costs_nothing(
    api: Any, site: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("scrapedo_dagster.emulator.task_runner.content_of", broken)
    task = api.scrape_one(f"{site.url}/page")
    assert (task["Status"], task["StatusCode"]) == ("error", 510)
    assert "see its log" in task["ErrorMessage"]
    assert "a defect" in caplog.text
    assert api.emulator.credits == 3_500_000
    assert api.me()["FreeConcurrency"] == 12


def test_a_disconnect_within_a_request_is_not_an_error(
    api: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = api.emulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        eventually(lambda: api.emulator.requests().get("create_job"))
    assert api.me()
    assert api.emulator.jobs() == []
    assert caplog.records == []


async def test_the_clock_wakes_only_sleepers_that_are_due() -> None:
    clock = EmulatorClock()
    start = clock.now()
    early = asyncio.ensure_future(clock.sleep_until(start + timedelta(hours=1)))
    late = asyncio.ensure_future(clock.sleep_until(start + timedelta(hours=3)))
    await asyncio.sleep(0)
    clock.advance(timedelta(minutes=59))
    await asyncio.wait({early, late}, timeout=0.05)
    assert not early.done()
    clock.advance(timedelta(hours=1))
    await asyncio.wait_for(early, 5)
    assert not late.done()
    clock.advance(timedelta(hours=2))
    await asyncio.wait_for(late, 5)
    await asyncio.wait_for(clock.sleep_until(clock.now() + timedelta(milliseconds=30)), 5)


def test_responses_have_the_date_of_the_emulator_clock(api: Any) -> None:
    api.emulator.advance(timedelta(days=2))
    dated = parsedate_to_datetime(api.http.get("/me").headers["Date"])
    assert abs(dated - api.emulator.now()) < timedelta(seconds=5)
