"""Admin endpoints: counts, clock, faults, and access to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest

from scrapedo_dagster.emulator import Emulator, EmulatorSettings


def test_targets_are_counted(api: Any, site: Any) -> None:
    page, broken = f"{site.url}/page", f"{site.url}/status/500"
    api.scrape(page, page, broken, Super=True)
    targets = {target.pop("url"): target for target in api.admin.get("/targets").json()["targets"]}
    assert targets == {
        page: {"submitted": 2, "fetched": 2, "charged": 2, "credits": 20},
        broken: {"submitted": 1, "fetched": 3, "charged": 0, "credits": 0},
    }
    counts = api.emulator.targets()
    assert (counts[page].charged, counts[page].credits) == (2, 20)


def test_a_refused_job_submits_nothing(api: Any) -> None:
    api.post(Targets=["http://127.0.0.1:9/"], Timeout=1)
    assert api.emulator.targets() == {}
    assert api.emulator.requests() == {"create_job": 1}


def test_calls_are_counted_by_operation(api: Any, site: Any) -> None:
    api.emulator.set_faults({"calls": [{"endpoint": "me", "kind": "status", "status": 500, "times": 1}]})
    job_id = api.create(f"{site.url}/page")
    api.http.get("/me")
    api.http.get("/me", headers={"X-Token": "wrong"})
    api.list()
    api.http.get(f"/jobs/{job_id}/x")
    api.cancel(job_id)
    api.job(job_id)
    expected = {"create_job": 1, "me": 2, "list_jobs": 1, "get_task": 1, "cancel_job": 1, "get_job": 1}
    assert api.admin.get("/requests").json() == {"requests": expected}
    assert api.emulator.requests() == expected


def test_the_clock_is_advanced(api: Any, site: Any) -> None:
    job_id = api.create(f"{site.url}/page")
    before = api.emulator.now()
    answer = api.admin.post("/clock", json={"advance_seconds": 3 * 86400})
    after = datetime.fromisoformat(answer.json()["now"])
    assert (after - before).total_seconds() >= 3 * 86400
    assert api.http.get(f"/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"advance_seconds": -1}',
        b'{"advance_seconds": "1"}',
        b'{"advance_seconds": true}',
        b'{"advance_seconds": 1e12}',
    ],
)
def test_an_invalid_clock_step_is_refused(shared_api: Any, body: bytes) -> None:
    response = shared_api.admin.post("/clock", content=body)
    assert response.status_code == 400
    assert "advance_seconds" in response.json()["error"]


def test_faults_are_read_replaced_and_removed(api: Any) -> None:
    assert api.admin.get("/faults").json() == {}
    faults = {"seed": 3, "calls": [{"endpoint": "me", "kind": "status", "status": 503}]}
    assert api.admin.put("/faults", json=faults).json() == faults
    assert api.http.get("/me").status_code == 503
    assert api.admin.get("/faults").json() == faults
    assert api.emulator.faults.seed == 3
    assert api.admin.delete("/faults").json() == {}
    assert api.http.get("/me").status_code == 200


@pytest.mark.parametrize("body", [b"nonsense", b'{"calls": [{"kind": "explode"}]}', b'{"colour": 1}', b"[]"])
def test_invalid_faults_change_nothing(api: Any, body: bytes) -> None:
    api.emulator.set_faults({"seed": 5})
    response = api.admin.put("/faults", content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("faults: ")
    assert api.emulator.faults.seed == 5


def test_an_emulator_beyond_loopback_has_no_admin_endpoints() -> None:
    with Emulator(settings=EmulatorSettings(host="0.0.0.0", token="my-own")) as emulator:
        url = emulator.base_url.replace("0.0.0.0", "127.0.0.1")
        assert emulator.admin_url is None
        for path in ("targets", "requests", "faults"):
            assert httpx.get(f"{url}/admin/{path}").status_code == 404
        assert httpx.post(f"{url}/admin/clock", json={"advance_seconds": 1}).status_code == 404
        assert httpx.get(f"{url}/api/v1/me", headers={"X-Token": emulator.token}).status_code == 200
