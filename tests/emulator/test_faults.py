"""Faults on demand, as a client sees them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from scrapedo_dagster.emulator import CallFault, Emulator, Faults, FaultsError

ENDPOINTS = ("create_job", "get_job", "get_task", "list_jobs", "cancel_job", "me")


def call(api: Any, site: Any, endpoint: str, job: dict[str, Any]) -> httpx.Response:
    http, job_id = api.http, job["JobID"]
    calls = {
        "create_job": lambda: http.post("/jobs", json={"Targets": [f"{site.url}/new"]}),
        "get_job": lambda: http.get(f"/jobs/{job_id}"),
        "get_task": lambda: http.get(f"/jobs/{job_id}/{job['TaskIDs'][0]}"),
        "list_jobs": lambda: http.get("/jobs"),
        "cancel_job": lambda: http.delete(f"/jobs/{job_id}"),
        "me": lambda: http.get("/me"),
    }
    response: httpx.Response = calls[endpoint]()
    return response


@pytest.fixture
def job(api: Any, site: Any) -> dict[str, Any]:
    """A finished job."""
    finished: dict[str, Any] = api.finished(api.create(f"{site.url}/page", f"{site.url}/other"))
    return finished


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_operation_can_fail_alone(api: Any, site: Any, job: dict[str, Any], endpoint: str) -> None:
    api.emulator.set_faults({"calls": [{"endpoint": endpoint, "kind": "status", "status": 503}]})
    for other in ENDPOINTS:
        response = call(api, site, other, job)
        assert (response.status_code == 503) == (other == endpoint)
    assert api.emulator.requests()[endpoint] >= 1


def test_429_comes_with_or_without_retry_after(api: Any) -> None:
    faults = [
        {"kind": "status", "status": 429, "times": 1},
        {"kind": "status", "status": 429, "retry_after": 7, "times": 1},
    ]
    api.emulator.set_faults({"calls": faults})
    without, with_header, well = (api.http.get("/me") for _ in range(3))
    assert (without.status_code, with_header.status_code, well.status_code) == (429, 429, 200)
    assert "Retry-After" not in without.headers
    assert with_header.headers["Retry-After"] == "7"
    assert without.json() == {"Error": "injected by the emulator", "Code": 429}


def test_bodies_of_errors_can_be_html_or_empty(api: Any) -> None:
    faults = [
        {"kind": "status", "status": 502, "body": "html", "times": 1},
        {"kind": "status", "status": 200, "body": "html", "times": 1},
        {"kind": "status", "status": 500, "body": "empty", "times": 1},
    ]
    api.emulator.set_faults({"calls": faults})
    gateway, confused, empty = (api.http.get("/me") for _ in range(3))
    assert (gateway.status_code, gateway.text) == (502, "<html><body><h1>502</h1></body></html>")
    assert (confused.status_code, confused.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (empty.status_code, empty.content) == (500, b"")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_connection_is_dropped_before_or_after_processing(
    api: Any, site: Any, job: dict[str, Any], endpoint: str, when: str
) -> None:
    api.emulator.set_faults({"calls": [{"endpoint": endpoint, "kind": "drop", "when": when, "times": 1}]})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        call(api, site, endpoint, job)
    submitted = [record for record in api.emulator.jobs() if record.targets == (f"{site.url}/new",)]
    assert len(submitted) == (endpoint == "create_job" and when == "after")
    assert call(api, site, endpoint, job).status_code in (200, 406), "the next call is well again"


def test_a_job_can_be_created_although_the_response_is_an_error(api: Any, site: Any) -> None:
    fault = {"endpoint": "create_job", "kind": "status", "status": 502, "when": "after", "times": 1}
    api.emulator.set_faults({"calls": [fault]})
    assert api.post(Targets=[f"{site.url}/page"]).status_code == 502
    assert [record.targets for record in api.emulator.jobs()] == [(f"{site.url}/page",)]
    api.emulator.set_faults({"calls": [{**fault, "when": "before"}]})
    assert api.post(Targets=[f"{site.url}/page"]).status_code == 502
    assert len(api.emulator.jobs()) == 1


def test_a_truncated_response_announces_more_than_it_sends(api: Any, site: Any) -> None:
    api.emulator.set_faults({"calls": [{"kind": "truncate", "times": 1}]})
    with pytest.raises(httpx.RemoteProtocolError, match=r"received \d+ bytes, expected \d+"):
        api.post(Targets=[f"{site.url}/page"])
    assert len(api.emulator.jobs()) == 1, "the work was done"
    assert api.me()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hanging_call_gets_no_response(api: Any, site: Any, when: str) -> None:
    api.emulator.set_faults({"calls": [{"kind": "hang", "when": when}]})
    with pytest.raises(httpx.ReadTimeout):
        api.http.post("/jobs", json={"Targets": [f"{site.url}/page"]}, timeout=0.2)
    assert len(api.emulator.jobs()) == (when == "after")


def test_latency_is_added_before_or_after_processing(api: Any, site: Any) -> None:
    latency = {"endpoint": "create_job", "kind": "latency", "seconds": 0.15}
    api.emulator.set_faults({"calls": [latency, latency]})
    began = time.monotonic()
    api.create(f"{site.url}/page")
    assert time.monotonic() - began >= 0.3
    api.emulator.set_faults({"calls": [{**latency, "seconds": 20, "when": "after"}]})
    with pytest.raises(httpx.ReadTimeout):
        api.http.post("/jobs", json={"Targets": [f"{site.url}/late"]}, timeout=0.2)
    assert api.emulator.jobs()[-1].targets == (f"{site.url}/late",)


def test_a_slow_call_is_processed_although_the_client_disconnected(api: Any, site: Any, eventually: Any) -> None:
    api.emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "latency", "seconds": 0.4}]})
    with pytest.raises(httpx.ReadTimeout):
        api.http.post("/jobs", json={"Targets": [f"{site.url}/page"]}, timeout=0.1)
    assert api.emulator.jobs() == []
    eventually(lambda: len(api.emulator.jobs()) == 1)


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "latency", "seconds": 600}])
def test_waiting_calls_do_not_delay_stopping(fault: dict[str, Any], eventually: Any) -> None:
    with Emulator(token="t", faults={"calls": [fault]}) as emulator:
        outcome: list[object] = []

        def ask() -> None:
            try:
                outcome.append(httpx.get(f"{emulator.base_url}/api/v1/me", headers={"X-Token": "t"}, timeout=60))
            except httpx.TransportError as error:
                outcome.append(error)

        caller = threading.Thread(target=ask)
        caller.start()
        eventually(lambda: emulator.requests().get("me"))
        began = time.monotonic()
    assert time.monotonic() - began < 2
    caller.join()
    assert outcome


def test_times_limits_a_fault_to_the_next_calls(api: Any) -> None:
    api.emulator.set_faults({"calls": [{"endpoint": "me", "kind": "status", "status": 500, "times": 3}]})
    assert [api.http.get("/me").status_code for _ in range(5)] == [500, 500, 500, 200, 200]


def test_probability_is_drawn_from_the_seed(api: Any) -> None:
    def draw(seed: int) -> list[int]:
        fault = {"endpoint": "me", "kind": "status", "status": 500, "probability": 0.5}
        api.emulator.set_faults({"seed": seed, "calls": [fault]})
        return [api.http.get("/me").status_code for _ in range(40)]

    first = draw(1)
    assert first == draw(1)
    assert first != draw(2)
    assert set(first) == {200, 500}


def test_faults_have_independent_random_numbers() -> None:
    from scrapedo_dagster.emulator.fault_injector import FaultInjector

    drop = CallFault(endpoint="me", kind="drop", probability=0.5)
    other = CallFault(endpoint="get_job", kind="drop", probability=0.5)
    alone = FaultInjector(Faults(calls=(drop,)))
    beside = FaultInjector(Faults(calls=(drop, other)))
    draws = []
    for _ in range(50):
        beside.for_call("get_job", ())
        draws.append((alone.for_call("me", ()), beside.for_call("me", ())))
    assert all(one == two for one, two in draws)


def test_calls_are_matched_by_path_or_by_target(api: Any, site: Any) -> None:
    one, two = api.create(f"{site.url}/one"), api.create(f"{site.url}/two?a=[1]")
    api.finished(one)
    tasks = api.finished(two)["TaskIDs"]
    api.emulator.set_faults({"calls": [{"kind": "status", "status": 500, "match": "*/two?a=[1]"}]})
    assert api.http.get(f"/jobs/{one}").status_code == 200
    assert api.http.get(f"/jobs/{two}").status_code == 500
    assert api.http.get(f"/jobs/{two}/{tasks[0]}").status_code == 500
    assert api.post(Targets=[f"{site.url}/x", f"{site.url}/two?a=[1]"]).status_code == 500
    assert api.post(Targets=[f"{site.url}/x"]).status_code == 200
    assert api.post(Targets=5).status_code == 400
    assert api.post(Plugin={"Key": "new/plugin", "Params": [{}]}).status_code == 200
    assert api.http.post("/jobs", content=b"nonsense").status_code == 400
    api.emulator.set_faults({"calls": [{"kind": "status", "status": 500, "match": f"*/jobs/{one}*"}]})
    assert api.http.get(f"/jobs/{one}").status_code == 500
    assert api.http.get(f"/jobs/{two}").status_code == 200


def test_targets_can_fail_without_being_fetched_or_billed(api: Any, site: Any) -> None:
    fault = {"kind": "error", "match": "*/bad", "status_code": 510, "message": "too slow"}
    api.emulator.set_faults({"targets": [fault]})
    good, bad = api.scrape(f"{site.url}/good", f"{site.url}/bad")
    assert good["Status"] == "success"
    assert (bad["Status"], bad["StatusCode"], bad["ErrorMessage"]) == ("error", 510, "too slow")
    assert bad["Scrape.do"] == {"Credits-Used": "0", "Remaining-Credits": "3499999"}
    assert site.hits["/bad"] == 0


def test_tasks_can_be_missing_or_gone(api: Any, site: Any) -> None:
    job = api.finished(api.create(f"{site.url}/a", f"{site.url}/b", f"{site.url}/c"))
    faults = [{"kind": "missing", "match": "*/a"}, {"kind": "gone", "match": "*/b"}]
    api.emulator.set_faults({"targets": faults})
    answers = [api.http.get(f"/jobs/{job['JobID']}/{task_id}") for task_id in job["TaskIDs"]]
    assert [answer.status_code for answer in answers] == [404, 410, 200]
    assert answers[1].json() == {"Error": "Task response content is no longer available.", "Code": 410}
    assert api.job(job["JobID"])["Status"] == "success"


def test_a_fault_of_a_task_is_decided_once(api: Any, site: Any) -> None:
    job = api.finished(api.create(*[f"{site.url}/{i}" for i in range(30)]))
    api.emulator.set_faults({"targets": [{"kind": "gone", "probability": 0.5}]})

    def look() -> list[int]:
        return [api.http.get(f"/jobs/{job['JobID']}/{task}").status_code for task in job["TaskIDs"]]

    first = look()
    assert set(first) == {200, 410}
    assert look() == first
    api.emulator.set_faults({"targets": [{"kind": "gone", "times": 2}]})
    assert Counter(look()) == Counter(look()) == {410: 2, 200: 28}


def test_a_task_can_linger_in_an_unknown_status(start: Any, site: Any, eventually: Any) -> None:
    faults = [
        {"kind": "linger", "match": "*/a", "status": "verifying", "seconds": 200.0},
        {"kind": "linger", "match": "*/b", "status": "archiving"},
    ]
    api = start(faults={"targets": faults})
    job_id = api.create(f"{site.url}/a", f"{site.url}/b")
    a, b = api.job(job_id)["TaskIDs"]
    eventually(lambda: api.task(job_id, a)["Status"] == "verifying")
    eventually(lambda: api.task(job_id, a)["Status"] == "success")
    assert api.task(job_id, b)["Status"] == "archiving"
    job = api.job(job_id)
    assert (job["Status"], job["AcquiredConcurrency"]) == ("pending", 1)
    assert api.cancel(job_id).status_code == 200


@pytest.mark.parametrize("status", ["error", "archived"])
def test_a_job_can_end_differently_from_its_tasks(start: Any, site: Any, status: str) -> None:
    api = start(faults={"jobs": [{"end_status": status, "match": "*/bad/*"}]})
    bad = api.finished(api.create(f"{site.url}/good/1", f"{site.url}/bad/1"))
    good = api.finished(api.create(f"{site.url}/good/2"))
    assert (bad["Status"], good["Status"]) == (status, "success")
    assert {task["Status"] for task in bad["Tasks"]} == {"success"}
    assert api.task(bad["JobID"], bad["TaskIDs"][0])["Content"] == "<h1>Hello</h1>"


def test_task_ids_can_be_shuffled(start: Any, site: Any) -> None:
    urls = [f"{site.url}/{i}" for i in range(20)]
    api = start(faults={"wire": {"shuffle_task_ids": True}})
    created = api.post(Targets=urls).json()
    job = api.finished(created["JobID"])
    assert created["TaskIDs"] == job["TaskIDs"] == [task["TaskID"] for task in job["Tasks"]]
    shown = [task["URL"] for task in job["Tasks"]]
    assert shown != urls
    assert sorted(shown) == sorted(urls)


def test_urls_can_be_reported_normalized(start: Any) -> None:
    api = start(faults={"wire": {"normalize_urls": True}})
    sent = {
        "HTTP://127.0.0.1:9": "http://127.0.0.1:9/",
        "http://EXAMPLE.invalid:80/A?b=C#part": "http://example.invalid/A?b=C",
        "https://example.invalid:443": "https://example.invalid/",
        "https://example.invalid/a b": "https://example.invalid/a%20b",
    }
    job = api.finished(api.create(*sent, DisableRetry=True))
    assert [task["URL"] for task in job["Tasks"]] == list(sent.values())
    assert api.task(job["JobID"], job["TaskIDs"][1])["URL"] == "http://example.invalid/A?b=C"
    assert set(api.emulator.targets()) == set(sent), "counts are by the URL that was submitted"


def test_absent_values_can_be_zero_values_of_go(start: Any, site: Any) -> None:
    api = start(faults={"wire": {"absent": "go", "fraction_digits": 9}})
    site.gate.clear()
    job_id = api.create(f"{site.url}/page")
    job = api.job(job_id)
    assert job["EndTime"] == "0001-01-01T00:00:00Z"
    task = api.task(job_id, job["TaskIDs"][0])
    assert task["EndTime"] == task["WebhookRequestTime"] == "0001-01-01T00:00:00Z"
    assert (task["ResponseHeaders"], task["Scrape.do"]) == (None, None)
    assert (task["Content"], task["ErrorMessage"], task["WebhookURL"], task["StatusCode"]) == ("", "", "", 0)
    assert api.list(status="error")["Jobs"] is None
    whole, fraction = job["StartTime"].split(".")
    assert (len(whole), len(fraction)) == (19, len("123456789Z"))


def test_absent_values_can_be_null(start: Any, site: Any) -> None:
    api = start(faults={"wire": {"absent": "null", "fraction_digits": 0}})
    site.gate.clear()
    job_id = api.create(f"{site.url}/page")
    task = api.task(job_id, api.job(job_id)["TaskIDs"][0])
    absent = ("EndTime", "StatusCode", "ResponseHeaders", "Scrape.do", "Content", "ErrorMessage", "WebhookURL")
    assert {key: task[key] for key in absent} == dict.fromkeys(absent)
    assert len(task["ExpiresAt"]) == len("2026-01-31T09:30:00Z")


def test_times_can_be_hidden_until_the_end(start: Any, site: Any) -> None:
    api = start(faults={"wire": {"times_before_end": "hidden"}})
    finished = api.create(f"{site.url}/page")
    assert "StartTime" in api.finished(finished)
    site.gate.clear()
    running = api.create(f"{site.url}/page")
    assert "StartTime" not in api.job(running)
    assert "StartTime" not in api.task(running, api.job(running)["TaskIDs"][0])
    assert [job["JobID"] for job in api.list()["Jobs"]] == [finished, running], "the zero time is the oldest"
    assert [job["JobID"] for job in api.list(start_from="2020-01-01T00:00:00Z")["Jobs"]] == [finished]
    assert [job["JobID"] for job in api.list(start_to="2020-01-01T00:00:00Z")["Jobs"]] == [running]


def test_headers_can_be_lists(start: Any, site: Any) -> None:
    api = start(faults={"wire": {"list_headers": True}})
    assert api.scrape_one(f"{site.url}/cookies")["ResponseHeaders"]["Set-Cookie"] == ["a=1", "b=2"]


DOCUMENTED = """
seed = 7

[wire]
absent = "go"
fraction_digits = 9
times_before_end = "hidden"
shuffle_task_ids = true
normalize_urls = true
list_headers = true

[[calls]]
endpoint = "create_job"
kind = "drop"
when = "after"
times = 1
probability = 0.5
match = "*/products/*"

[[calls]]
kind = "status"
status = 429
retry_after = 2
body = "html"

[[calls]]
kind = "latency"
seconds = 1.5

[[targets]]
match = "*/broken/*"
kind = "error"
status_code = 510

[[targets]]
kind = "linger"
status = "verifying"
seconds = 30

[[jobs]]
end_status = "error"
"""


def test_faults_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(DOCUMENTED)
    faults = Faults.load(path)
    assert (faults.seed, faults.wire.absent, len(faults.calls), len(faults.targets)) == (7, "go", 3, 2)
    assert faults.calls[0] == CallFault(
        endpoint="create_job", kind="drop", when="after", times=1, probability=0.5, match="*/products/*"
    )
    assert faults.jobs[0].end_status == "error"


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("sed = 7", "sed: unknown key"),
        ("[wire]\nabsnt = 1", "wire.absnt: unknown key"),
        ('[wire]\nabsent = "maybe"', "wire.absent"),
        ("[wire]\nfraction_digits = 10", "wire.fraction_digits"),
        ('[[calls]]\nkind = "explode"', "calls[0].kind"),
        ('[[calls]]\nendpoint = "make_job"\nkind = "drop"', "calls[0].endpoint"),
        ('[[calls]]\nkind = "drop"\n[[calls]]\nkind = "drop"\ntime = 3', "calls[1].time: unknown key"),
        ('[[calls]]\nkind = "status"', "kind status needs status"),
        ('[[calls]]\nkind = "latency"', "kind latency needs seconds"),
        ('[[calls]]\nkind = "drop"\nstatus = 500', "status belongs to kind status, not to drop"),
        ('[[calls]]\nkind = "drop"\nbody = "html"', "body belongs to kind status"),
        ('[[calls]]\nkind = "truncate"\nwhen = "before"', "when belongs to"),
        ('[[calls]]\nkind = "drop"\nprobability = 1.1', "calls[0].probability"),
        ('[[calls]]\nkind = "drop"\ntimes = 0', "calls[0].times"),
        ('[[targets]]\nmatch = "*"', "targets[0].kind"),
        ('[[targets]]\nkind = "gone"\nstatus_code = 500', "status_code belongs to kind error, not to gone"),
        ('[[targets]]\nkind = "error"\nseconds = 5', "seconds belongs to kind linger"),
        ("[[calls]\n", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, toml: str, named: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(toml)
    with pytest.raises(FaultsError) as caught:
        Faults.load(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match=r"nowhere\.toml: cannot be read"):
        Faults.load(tmp_path / "nowhere.toml")
