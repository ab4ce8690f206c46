"""The receiver over HTTP: what it stores, what it refuses, and what it answers when it cannot store."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scrapedo_dagster.engine.inbox.deliveries import Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import account_fingerprint
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER

SECRET, PREVIOUS = "canary-7f3a9c-current-secret", "canary-7f3a9c-previous-secret"
KEY = f"{account_fingerprint('canary-7f3a9c')[:12]}-1"


pytestmark = pytest.mark.usefixtures("any_task")


class FullInbox(Inbox):
    """An inbox whose disk is full for a while."""

    is_full = True

    def _fail_if_full(self) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        self._fail_if_full()
        return super().put(deliveries)

    def quarantine(self, deliveries: Sequence[Delivery]) -> list[bool]:
        self._fail_if_full()
        return super().quarantine(deliveries)

    def check(self) -> None:
        self._fail_if_full()
        super().check()


class SlowInbox(Inbox):
    """An inbox that stores and checks nothing before the gate is opened."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.gate = threading.Event()
        self.checks = 0

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        self.gate.wait(60)
        return super().put(deliveries)

    def check(self) -> None:
        self.checks += 1
        self.gate.wait(60)
        super().check()


def test_a_delivery_is_stored_before_it_is_answered(running: Any, inbox: Inbox, task_body: Any) -> None:
    answer = running.post(task_body())
    assert (answer.status_code, answer.json()) == (200, {"result": "stored"})
    assert inbox.read(KEY, "j1", "t1") == task_body()


def test_a_duplicate_is_answered_200_and_changes_nothing(running: Any, inbox: Inbox, task_body: Any) -> None:
    assert running.post(task_body()).json() == {"result": "stored"}
    again = running.post(task_body(Content="something else"))
    assert (again.status_code, again.json()) == (200, {"result": "duplicate"})
    assert inbox.read(KEY, "j1", "t1") == task_body()


@pytest.mark.parametrize("secret", [SECRET, PREVIOUS])
def test_both_secrets_are_valid_while_they_are_exchanged(running: Any, task_body: Any, secret: str) -> None:
    assert running.post(task_body(), secret=secret).status_code == 200


@pytest.mark.parametrize("secret", [None, "", "x" * 32, SECRET[:-1], SECRET + "x", SECRET.upper(), "é" * 24])
def test_without_a_valid_secret_nothing_is_taken(
    running: Any, inbox: Inbox, task_body: Any, secret: str | None
) -> None:
    answer = running.http.post(
        PATH + KEY, content=task_body(), headers=[] if secret is None else [(SECRET_HEADER.encode(), secret.encode())]
    )
    assert answer.status_code == 401
    assert inbox.arrivals([KEY]) == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"null", "not a task"),
        (b"[]", "not a task"),
        (b'{"JobID": "j1", "Status": "success"}', "TaskID"),
        (b'{"TaskID": "t1", "Status": "success"}', "JobID"),
        (b'{"TaskID": "", "JobID": "j1", "Status": "success"}', "TaskID"),
        (b'{"TaskID": "t1", "JobID": "j1", "Status": "rotating"}', "not ended"),
        (b'{"TaskID": "t1", "JobID": "j1"}', "not ended"),
        (b'{"TaskID": "t\\u0000", "JobID": "j1", "Status": "success"}', "not printable"),
        (b'{"TaskID": "%s", "JobID": "j1", "Status": "success"}' % (b"x" * 300), "not printable"),
    ],
)
def test_a_body_that_is_not_a_finished_task_is_refused_with_a_reason(
    running: Any, inbox: Inbox, body: bytes, reason: str
) -> None:
    answer = running.post(body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert inbox.arrivals([KEY]) == {}


def test_unknown_fields_and_nulls_are_no_reason_to_refuse(running: Any, inbox: Inbox) -> None:
    body = {"TaskID": "t1", "JobID": 7, "Status": "ERROR", "New": {"a": [1]}, "Content": None, "ResponseHeaders": None}
    assert running.post(json.dumps(body).encode()).status_code == 200
    assert inbox.read(KEY, "7", "t1") is not None


def test_a_body_that_is_too_large_is_413_whether_announced_or_not(
    start: Callable[..., Any], inbox: Inbox, task_body: Any
) -> None:
    running = start(max_body=10_000)

    def chunks() -> Iterator[bytes]:
        yield from (body[at : at + 1000] for at in range(0, len(body), 1000))

    body = task_body(Content="x" * 20_000)
    for sent in (body, chunks()):
        answer = running.post(sent)
        assert (answer.status_code, answer.json()["error"]) == (413, "a body may have 10000 bytes at most")
    assert inbox.arrivals([KEY]) == {}
    assert running.post(task_body(Content="x" * 9000)).status_code == 200


def test_a_body_that_comes_too_slowly_is_503_and_blocks_no_other(start: Callable[..., Any], task_body: Any) -> None:
    running = start(max_body=1000, request_seconds=2)
    head = f"POST {PATH}{KEY} HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: 100\r\n\r\n"
    with running.connect() as slow:
        slow.sendall(head.encode() + b"{")
        assert running.post(task_body()).status_code == 200
        slow.settimeout(20)
        assert slow.recv(1000).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/", "/webhooks/other", "/", "/x/healthz", "/healthz/", "/%00"])
def test_no_path_is_404_or_410(running: Any, path: str, task_body: Any) -> None:
    for method in ("POST", "GET", "DELETE", "BREW"):
        answer = running.http.request(method, path, content=task_body(), headers={SECRET_HEADER: SECRET})
        assert answer.status_code in (400, 405), (method, answer.status_code)


def test_other_methods_than_post_are_refused(running: Any) -> None:
    assert running.http.get(PATH + KEY, headers={SECRET_HEADER: SECRET}).status_code == 405


def test_a_full_disk_is_503_and_the_next_attempt_is_stored(
    start: Callable[..., Any], ledger: Ledger, task_body: Any
) -> None:
    inbox = FullInbox(ledger)
    running = start(inbox=inbox)
    for key in (KEY, "nobody"):
        answer = running.post(task_body(), key=key)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert running.http.get("/readyz").status_code == 503
    assert running.http.get("/healthz").status_code == 200
    inbox.is_full = False
    assert running.post(task_body()).json() == {"result": "stored"}
    problems = {line.get("problem") for line in running.requests() if line["status"] == 503}
    assert problems == {"OSError: [Errno 28] No space left on device"}


def test_a_slow_disk_is_503_when_the_request_has_taken_too_long(
    start: Callable[..., Any], ledger: Ledger, task_body: Any
) -> None:
    inbox = SlowInbox(ledger)
    running = start(inbox=inbox, request_seconds=0.5)
    assert running.post(task_body()).status_code == 503
    inbox.gate.set()
    patient = start(inbox=inbox)
    assert patient.post(task_body()).status_code == 200
    assert inbox.read(KEY, "j1", "t1") == task_body()


def test_a_delivery_whose_request_has_timed_out_is_not_stored_any_more(
    start: Callable[..., Any], ledger: Ledger, task_body: Any
) -> None:
    inbox = SlowInbox(ledger)
    running = start(inbox=inbox, request_seconds=1)
    for task_id in ("t1", "t2"):  # the first is being stored, the second waits for it
        assert running.post(task_body(task_id=task_id)).status_code == 503
    inbox.gate.set()
    assert running.post(task_body(task_id="t3")).status_code == 200
    assert {arrival.task_id for arrival in inbox.arrivals([KEY])[KEY]} == {"t1", "t3"}


def test_without_the_database_deliveries_are_503_and_the_receiver_is_not_ready(
    start: Callable[..., Any], tmp_path: Path, task_body: Any
) -> None:
    (tmp_path / "directory.db").mkdir()
    ledger = Ledger(f"sqlite:///{tmp_path / 'directory.db'}")
    running = start(ledger=ledger, inbox=Inbox(ledger))
    assert running.post(task_body()).status_code == 503
    answer = running.http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)


def test_a_database_that_hangs_is_not_ready_and_is_checked_once(start: Callable[..., Any], ledger: Ledger) -> None:
    inbox = SlowInbox(ledger)
    running = start(inbox=inbox, ready_seconds=0.3)
    for _ in range(5):
        assert running.http.get("/readyz", timeout=5).status_code == 503
    assert inbox.checks == 1, "one thread hangs, not one a request"
    inbox.gate.set()


def test_old_deliveries_are_pruned_at_the_start(
    start: Callable[..., Any], inbox: Inbox, delivery: Callable[..., Delivery], eventually: Any
) -> None:
    inbox.put([delivery(KEY)])
    running = start(keep_for=timedelta(seconds=-5))
    eventually(lambda: inbox.arrivals([KEY]) == {})
    eventually(lambda: '"pruned", "deliveries": 1' in running.log())


def test_the_access_log_is_json_without_secrets(running: Any, task_body: Any) -> None:
    running.post(task_body(), key=f"{KEY}?token={SECRET}")
    running.post(task_body(), key=SECRET, secret="wrong")
    running.post(b'{"TaskID": "x", "JobID": "\\n%s", "Status": "success"}' % SECRET.encode())
    running.post(b"{", secret="wrong")
    stored, named, refused, forged = running.requests()
    assert {
        name: stored[name] for name in ("method", "path", "status", "job_id", "task_id", "submission", "result")
    } == {
        "method": "POST",
        "path": PATH + KEY,
        "status": 200,
        "job_id": "j1",
        "task_id": "t1",
        "submission": KEY,
        "result": "stored",
    }
    assert stored["bytes"] == len(task_body())
    assert (named["status"], named["path"]) == (401, f"{PATH}***")
    assert (refused["status"], forged["status"]) == (400, 401)
    assert "canary" not in running.log()


def test_a_delivery_is_stored_although_its_line_of_the_log_is_not(start: Callable[..., Any], task_body: Any) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    running = start(output=Full())
    assert running.post(task_body()).json() == {"result": "stored"}
