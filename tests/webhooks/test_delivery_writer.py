"""What becomes of a delivery, by what the ledger knows of its submission."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from scrapedo_dagster.engine.inbox.deliveries import Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox, QuarantineLimits
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER
from scrapedo_dagster.webhooks.delivery_writer import DeliveryResult, DeliveryWriter

SECRET = "canary-7f3a9c-current-secret"
KEY = f"{account_fingerprint('canary-7f3a9c')[:12]}-1"
Submit = Callable[..., SubmissionWithTargets]


def test_deliveries_that_come_at_once_are_each_stored_once(
    running: Any, inbox: Inbox, submitted: Submit, task_body: Any
) -> None:
    submitted("j1", task_ids=[f"t{n}" for n in range(50)])
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: running.post(task_body(task_id=f"t{n % 50}")).json(), range(100)))
    assert sorted(answer["result"] for answer in answers) == ["duplicate"] * 50 + ["stored"] * 50
    assert len(inbox.arrivals([KEY])[KEY]) == 50


@pytest.mark.slow
def test_two_hundred_connections_at_once_are_served(
    running: Any, inbox: Inbox, submitted: Submit, task_body: Any
) -> None:
    submitted("j1", task_ids=[f"t{n}" for n in range(200)])
    limits = httpx.Limits(max_connections=200)
    client = httpx.Client(base_url=running.url, limits=limits, timeout=60, trust_env=False)
    with client as http, ThreadPoolExecutor(200) as threads:

        def post(number: int) -> int:
            body = task_body(task_id=f"t{number}", Content="x" * 50_000)
            return http.post(PATH + KEY, content=body, headers={SECRET_HEADER: SECRET}).status_code

        assert set(threads.map(post, range(200))) == {200}
    assert len(inbox.arrivals([KEY])[KEY]) == 200


@pytest.mark.parametrize("key", ["", "..", "a/b/c", "x" * 3000, "%00", f"{'0' * 12}-1", f"{KEY}9", f"{KEY}x"])
def test_deliveries_of_unknown_submissions_are_quarantined(
    running: Any, inbox: Inbox, submitted: Submit, task_body: Any, key: str
) -> None:
    submitted("j1")
    address = running.url + PATH + key.replace("..", "%2E%2E")
    answer = running.http.post(address, content=task_body(), headers={SECRET_HEADER: SECRET})
    assert (answer.status_code, answer.json()) == (200, {"result": "quarantined"})
    assert inbox.arrivals([KEY]) == {}
    assert running.http.get("/readyz").json()["quarantine"]["deliveries"] == 1
    assert running.requests()[0]["reason"].startswith("the ledger does not have this submission")


def test_a_delivery_of_another_job_is_quarantined(
    running: Any, inbox: Inbox, submitted: Submit, task_body: Any
) -> None:
    submitted("j1")
    assert running.post(task_body("j2")).json() == {"result": "quarantined"}
    assert running.post(task_body("j1")).json() == {"result": "stored"}
    assert running.post(task_body("j2", "t2")).json() == {"result": "quarantined"}
    assert {arrival.job_id for arrival in inbox.arrivals([KEY])[KEY]} == {"j1"}


@pytest.mark.parametrize("task_ids", [["t1", "t2"], []])
def test_a_task_that_the_job_does_not_have_is_quarantined(
    running: Any, inbox: Inbox, submitted: Submit, task_body: Any, task_ids: list[str]
) -> None:
    """Without recorded task ids, as many tasks as targets are stored."""
    submitted("j1", "https://shop.example/t1", "https://shop.example/t2", task_ids=task_ids)
    results = [running.post(task_body(task_id=each)).json()["result"] for each in ("t1", "t2", "invented", "t1")]
    assert results == ["stored", "stored", "quarantined", "duplicate"]
    assert {arrival.task_id for arrival in inbox.arrivals([KEY])[KEY]} == {"t1", "t2"}


def test_for_a_job_that_is_not_recorded_yet_as_many_tasks_as_targets_are_stored(
    running: Any, submitted: Submit, task_body: Any
) -> None:
    submitted(None, *(f"https://shop.example/{n}" for n in range(3)))
    results = [running.post(task_body(f"invented {n}")).json()["result"] for n in range(5)]
    assert results == ["stored"] * 3 + ["quarantined"] * 2


def test_a_delivery_that_comes_before_its_job_is_recorded_is_stored(
    running: Any, ledger: Ledger, submitted: Submit, task_body: Any
) -> None:
    claimed = submitted(None)
    assert running.post(task_body("j1")).json() == {"result": "stored"}
    ledger.submissions.mark_submitted(claimed, "j1", ["t1"])
    assert running.post(task_body("j2")).json() == {"result": "quarantined"}


def test_for_a_collected_submission_nothing_is_stored(
    running: Any, inbox: Inbox, ledger: Ledger, submitted: Submit, task_body: Any
) -> None:
    submission = submitted("j1", task_ids=["t1", "t2"])
    assert running.post(task_body()).json() == {"result": "stored"}
    ledger.submissions.mark_collected(ledger.submissions.mark_finished(submission), credits_used=0, succeeded=1)
    answer = running.post(task_body(task_id="t2"))
    assert (answer.status_code, answer.json()) == (200, {"result": "late"})
    assert len(inbox.arrivals([KEY])[KEY]) == 1


def test_for_a_canceled_submission_which_may_be_resumed_deliveries_are_stored(
    running: Any, ledger: Ledger, submitted: Submit, task_body: Any
) -> None:
    ledger.submissions.mark_canceled(submitted("j1", task_ids=["t1"]), "a person canceled it")
    assert running.post(task_body()).json() == {"result": "stored"}


def test_the_quarantine_is_limited(start: Callable[..., Any], ledger: Ledger, task_body: Any) -> None:
    running = start(inbox=Inbox(ledger, QuarantineLimits(deliveries=3)))
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: running.post(task_body(task_id=f"t{n}"), key="nobody"), range(20)))
    assert sorted(answer.json()["result"] for answer in answers) == ["dropped"] * 17 + ["quarantined"] * 3
    assert running.http.get("/readyz").json()["quarantine"]["dropped"] == 17


async def test_requests_that_time_out_while_the_database_hangs_leave_nothing_in_memory(ledger: Ledger) -> None:
    hangs, begun = threading.Event(), threading.Event()

    class HangingInbox(Inbox):
        def quarantine(self, deliveries: Sequence[Delivery]) -> list[bool]:
            begun.set()
            hangs.wait(20)
            return super().quarantine(deliveries)

    writer = DeliveryWriter(HangingInbox(ledger), ledger)
    first = asyncio.create_task(writer.store(Delivery("unknown", "j1", "first", b"{}")))
    assert await asyncio.to_thread(begun.wait, 20)
    alive: list[weakref.ref[Delivery]] = []

    async def request(number: int) -> None:
        delivery = Delivery("unknown", "j1", f"t{number}", b"{}")
        alive.append(weakref.ref(delivery))
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(writer.store(delivery), 0.05)

    await asyncio.gather(*map(request, range(20)))
    gc.collect()
    left = sum(each() is not None for each in alive)
    hangs.set()
    assert await first is DeliveryResult.QUARANTINED
    assert (len(alive), left) == (20, 0)
