"""The receiver over HTTP: what it takes, what it refuses, and what it says when it cannot store."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from scrapedo_dagster.cli.main import main
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.inbox import protocol as inbox_module
from scrapedo_dagster.engine.inbox.address import PATH, SECRET_HEADER
from scrapedo_dagster.engine.inbox.opening import open_inbox
from scrapedo_dagster.engine.inbox.protocol import Delivery, Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.webhooks import app as app_module
from scrapedo_dagster.webhooks import server as server_module
from scrapedo_dagster.webhooks.body import Room
from scrapedo_dagster.webhooks.log import Log
from scrapedo_dagster.webhooks.secrets import Secrets

SECRET, PREVIOUS = "canary-7f3a9c-current-secret", "canary-7f3a9c-previous-secret"
KEY = f"{account_fingerprint('canary-7f3a9c')[:12]}-1"


class Broken:
    """An inbox whose disk is full, until it is mended."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.is_full = True

    def __getattr__(self, name: str) -> Any:
        if self.is_full and name in ("put", "quarantine", "check", "prune"):
            return self._fail
        return getattr(self._inbox, name)

    def _fail(self, *_: Any) -> None:
        raise OSError(28, "No space left on device")


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
    assert inbox.news([KEY]) == {}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"null", "no task"),
        (b"[]", "no task"),
        (b'{"JobID": "j1", "Status": "success"}', "TaskID"),
        (b'{"TaskID": "t1", "Status": "success"}', "JobID"),
        (b'{"TaskID": "", "JobID": "j1", "Status": "success"}', "TaskID"),
        (b'{"TaskID": "t1", "JobID": "j1", "Status": "rotating"}', "not ended"),
        (b'{"TaskID": "t1", "JobID": "j1"}', "not ended"),
        (b'{"TaskID": "t\\u0000", "JobID": "j1", "Status": "success"}', "no id"),
        (b'{"TaskID": "%s", "JobID": "j1", "Status": "success"}' % (b"x" * 300), "no id"),
    ],
)
def test_what_is_no_finished_task_is_refused_with_a_reason(running: Any, inbox: Inbox, body: bytes, told: str) -> None:
    answer = running.post(body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert inbox.news([KEY]) == {}


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
    assert inbox.news([KEY]) == {}
    assert running.post(task_body(Content="x" * 9000)).status_code == 200


def test_a_body_that_comes_too_slowly_is_503_and_holds_up_no_other(start: Callable[..., Any], task_body: Any) -> None:
    running = start(max_body=1000, request_seconds=0.5)
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST {PATH}{KEY} HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head.encode() + b"{")
        assert running.post(task_body()).status_code == 200
        slow.settimeout(10)
        answer = b"".join(iter(lambda: slow.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nconnection: close\r\n" in answer


def connect(running: Any) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def is_closed(client: socket.socket) -> bool:
    """Waits for it."""
    with suppress(ConnectionResetError):
        while client.recv(65536):
            pass
    return True


@pytest.mark.parametrize("sent", [b"", b"POST /x HTTP/1.1\r\nHo"])
def test_connections_on_which_no_request_begins_are_closed(
    start: Callable[..., Any], task_body: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "_HEAD_SECONDS", 0.2)
    running = start()
    with connect(running) as silent:
        silent.sendall(sent)
        began = time.monotonic()
        assert is_closed(silent)
        assert time.monotonic() - began < 5
    assert running.post(task_body()).status_code == 200


def test_a_refused_body_that_comes_byte_by_byte_is_not_waited_for(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    monkeypatch.setattr(server_module, "_IDLE_SECONDS", 0.3)
    with connect(start()) as slow:
        slow.sendall(f"POST {PATH}{KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 401 ")

        def is_refused() -> bool:
            try:
                slow.sendall(b"x")
            except ConnectionError:
                return True
            return False

        eventually(is_refused)


_HEAD = f"POST {PATH}{KEY} HTTP/1.1\r\nHost: x\r\n".encode()
_MANY = b"".join(b"a%d: %b\r\n" % (n, b"y" * 1000) for n in range(64))


@pytest.mark.parametrize(
    ("head", "more"),
    [
        (_HEAD, _MANY),
        (_HEAD + b"a: ", b"y" * 65536),
        (_HEAD + b"a", b"y" * 65536),
        (b"POST /", b"x" * 65536),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", _MANY),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\na: ", b"y" * 65536),
        (_HEAD + f"{SECRET_HEADER}: {SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode(), _MANY),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"y" * 65536),
        (_HEAD + b"Content-Length: 16000000\r\n\r\n", b"y" * 65536),
        (b"", b"\r\n" * 32768),
    ],
    ids=[
        "headers",
        "a header",
        "a name",
        "a path",
        "trailers",
        "a trailer",
        "own trailers",
        "a chunk",
        "a body",
        "lines",
    ],
)
def test_whatever_is_sent_without_an_end_the_connection_is_closed(
    running: Any, task_body: Any, head: bytes, more: bytes
) -> None:
    sent = 0
    with connect(running) as greedy, suppress(ConnectionError):
        greedy.sendall(head)
        while sent < 64 * 2**20:
            greedy.sendall(more)
            sent += len(more)
    assert sent < 16 * 2**20, "what the two systems keep for a connection, and little more, was taken"
    assert running.post(task_body()).status_code == 200


def test_headers_that_are_too_large_are_431(running: Any, task_body: Any) -> None:
    assert running.post(task_body(), **{"X-Large": "y" * 50_000}).status_code == 200
    with connect(running) as greedy:
        greedy.sendall(_HEAD + b"a: " + b"y" * 70_000 + b"\r\n\r\n")
        assert greedy.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_connections_that_ask_nothing_keep_nobody_out(
    start: Callable[..., Any], task_body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 20)
    running = start()
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(running))
        assert running.http.get("/healthz").status_code == 200
        assert running.post(task_body()).status_code == 200
    assert '"event": "too many connections", "most": 20' in running.log()


def test_there_are_no_more_connections_than_files_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for allowed, most in ((256, 156), (1024, 924), (100_000, 1000), (resource.RLIM_INFINITY, 1000), (50, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, allowed=allowed: (allowed, allowed))
        assert server_module.most_connections() == most


@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/", "/webhooks/other", "/", "/x/healthz", "/healthz/", "/%00"])
def test_no_path_is_404_or_410(running: Any, path: str, task_body: Any) -> None:
    for method in ("POST", "GET", "DELETE", "BREW"):
        answer = running.http.request(method, path, content=task_body(), headers={SECRET_HEADER: SECRET})
        assert answer.status_code in (400, 405), (method, answer.status_code)


def test_other_methods_than_post_are_refused(running: Any) -> None:
    assert running.http.get(PATH + KEY, headers={SECRET_HEADER: SECRET}).status_code == 405


def test_a_full_disk_is_503_and_the_next_attempt_is_stored(
    start: Callable[..., Any], inbox: Inbox, task_body: Any
) -> None:
    broken = Broken(inbox)
    running = start(inbox=broken)
    for key in (KEY, "nobody"):
        answer = running.post(task_body(), key=key)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert running.http.get("/readyz").status_code == 503
    assert running.http.get("/healthz").status_code == 200
    broken.is_full = False
    assert running.post(task_body()).json() == {"result": "stored"}
    problems = {line.get("problem") for line in running.requests() if line["status"] == 503}
    assert problems == {"OSError: [Errno 28] No space left on device"}


def test_a_slow_disk_is_503_when_the_request_has_taken_too_long(
    start: Callable[..., Any], inbox: Inbox, task_body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, put = threading.Event(), inbox.put
    monkeypatch.setattr(inbox, "put", lambda deliveries: (gate.wait(20), put(deliveries))[1])
    running = start(request_seconds=0.3)
    assert running.post(task_body()).status_code == 503
    gate.set()
    assert running.post(task_body()).status_code == 200
    assert inbox.read(KEY, "j1", "t1") == task_body()


def test_a_ledger_that_cannot_be_reached_is_503(start: Callable[..., Any], tmp_path: Path, task_body: Any) -> None:
    (tmp_path / "no directory").touch()
    running = start(ledger=Ledger(f"sqlite:///{tmp_path / 'no directory' / 'ledger.db'}"))
    assert running.post(task_body()).status_code == 503


def test_not_ready_while_the_ledger_cannot_be_reached(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "no directory").touch()
    running = start(ledger=Ledger(f"sqlite:///{tmp_path / 'no directory' / 'ledger.db'}"))
    answer = running.http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)


def test_not_ready_while_the_disk_of_the_table_is_full(
    start: Callable[..., Any], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = False

    @sa.event.listens_for(ledger.engine, "begin")
    def limit(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() if is_full else 2**30
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    running = start(ledger=ledger, inbox=open_inbox(None, ledger))
    is_full = True
    assert running.http.get("/readyz").status_code == 503
    running = start(ledger=ledger, inbox=open_inbox(None, ledger))
    is_full = False
    answer = running.http.get("/readyz")
    assert (answer.status_code, answer.json()["unknown_submissions"]["kept"]) == (200, 0)


def test_storage_that_hangs_is_not_ready_and_is_not_waited_for(
    start: Callable[..., Any], inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "_READY_SECONDS", 0.3)
    gate, asked = threading.Event(), list[int]()
    monkeypatch.setattr(inbox, "check", lambda: (asked.append(1), gate.wait(60)))
    running = start()
    for _ in range(5):
        assert running.http.get("/readyz", timeout=5).status_code == 503
    assert len(asked) == 1, "one thread hangs, not one a question"
    gate.set()


def test_a_receiver_without_a_ledger_says_so(start: Callable[..., Any], ledger: Ledger) -> None:
    without, given = start(), start(ledger=ledger)
    assert "--ledger-url" in without.http.get("/readyz").json()["warning"]
    assert "--ledger-url" in without.log()
    assert "warning" not in given.http.get("/readyz").json()
    assert "--ledger-url" not in given.log()


def test_an_inbox_in_the_ledgers_database_takes_deliveries_of_its_submissions(
    start: Callable[..., Any], ledger: Ledger, submitted: Callable[..., SubmissionWithTargets], task_body: Any
) -> None:
    submitted("j1", task_ids=[f"t{n}" for n in range(50)])
    inbox = open_inbox(None, ledger)
    running = start(inbox=inbox, ledger=ledger)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: running.post(task_body(task_id=f"t{n % 50}")).json(), range(100)))
    assert sorted(answer["result"] for answer in answers) == ["duplicate"] * 50 + ["stored"] * 50
    assert len(inbox.news([KEY])[KEY]) == 50


@pytest.mark.parametrize("key", ["", "..", "a/b/c", "x" * 3000, "%00", f"{'0' * 12}-1", f"{KEY}9", f"{KEY}x"])
def test_unknown_submissions_are_kept_apart_and_told(
    start: Callable[..., Any],
    inbox: Inbox,
    ledger: Ledger,
    submitted: Callable[..., SubmissionWithTargets],
    task_body: Any,
    key: str,
) -> None:
    submitted("j1")
    running = start(ledger=ledger)
    answer = running.http.post(running.url + PATH + key.replace("..", "%2E%2E"), content=task_body(), headers=_own())
    assert (answer.status_code, answer.json()) == (200, {"result": "kept apart"})
    assert inbox.news([KEY]) == {}
    ready = running.http.get("/readyz").json()
    assert ready["unknown_submissions"]["kept"] == 1
    assert running.requests()[0]["reason"].startswith("nobody knows this submission")


def _own() -> dict[str, str]:
    return {SECRET_HEADER: SECRET}


def test_another_jobs_delivery_is_kept_apart(
    start: Callable[..., Any],
    inbox: Inbox,
    ledger: Ledger,
    submitted: Callable[..., SubmissionWithTargets],
    task_body: Any,
) -> None:
    submitted("j1")
    running = start(ledger=ledger)
    assert running.post(task_body("j2")).json() == {"result": "kept apart"}
    assert running.post(task_body("j1")).json() == {"result": "stored"}
    assert running.post(task_body("j2", "t2")).json() == {"result": "kept apart"}
    assert {arrival.job_id for arrival in inbox.news([KEY])[KEY]} == {"j1"}


@pytest.mark.parametrize("task_ids", [["t1", "t2"], []])
def test_what_is_no_task_of_the_job_is_kept_apart(
    start: Callable[..., Any],
    inbox: Inbox,
    ledger: Ledger,
    submitted: Callable[..., SubmissionWithTargets],
    task_body: Any,
    task_ids: list[str],
) -> None:
    """Where the service did not tell the tasks, there are no more of them than targets."""
    submitted("j1", "https://shop.example/t1", "https://shop.example/t2", task_ids=task_ids)
    running = start(ledger=ledger)
    results = [running.post(task_body(task_id=each)).json()["result"] for each in ("t1", "t2", "invented", "t1")]
    assert results == ["stored", "stored", "kept apart", "duplicate"]
    assert {arrival.task_id for arrival in inbox.news([KEY])[KEY]} == {"t1", "t2"}


def test_for_a_job_that_is_not_recorded_yet_there_is_an_end_too(
    start: Callable[..., Any],
    inbox: Inbox,
    ledger: Ledger,
    submitted: Callable[..., SubmissionWithTargets],
    task_body: Any,
) -> None:
    submitted(None, *(f"https://shop.example/{n}" for n in range(3)))
    running = start(ledger=ledger)
    results = [running.post(task_body(f"invented {n}")).json()["result"] for n in range(5)]
    assert results == ["stored"] * 3 + ["kept apart"] * 2


@pytest.mark.parametrize(("end", "result"), [("collected", "late"), ("canceled", "stored")])
def test_what_comes_too_late_is_not_stored_but_what_may_be_gone_on_with_is(
    start: Callable[..., Any],
    inbox: Inbox,
    ledger: Ledger,
    submitted: Callable[..., SubmissionWithTargets],
    task_body: Any,
    end: str,
    result: str,
) -> None:
    submission = submitted("j1", task_ids=["t1", "t2"])
    running = start(ledger=ledger)
    assert running.post(task_body()).json() == {"result": "stored"}
    if end == "collected":
        ledger.submissions.mark_collected(ledger.submissions.mark_finished(submission), credits_used=0, succeeded=1)
    else:
        ledger.submissions.mark_canceled(submission, "a person wanted it")
    answer = running.post(task_body(task_id="t2"))
    assert (answer.status_code, answer.json()) == (200, {"result": result})
    assert len(inbox.news([KEY])[KEY]) == (2 if result == "stored" else 1)


def test_a_delivery_that_is_quicker_than_the_record_of_its_job_is_taken(
    start: Callable[..., Any],
    inbox: Inbox,
    ledger: Ledger,
    submitted: Callable[..., SubmissionWithTargets],
    task_body: Any,
) -> None:
    claimed = submitted(None)
    running = start(ledger=ledger)
    assert running.post(task_body("j1")).json() == {"result": "stored"}
    ledger.submissions.mark_submitted(claimed, "j1", ["t1"])
    assert running.post(task_body("j2")).json() == {"result": "kept apart"}


def test_what_is_unknown_ends_somewhere(
    start: Callable[..., Any], inbox: Inbox, task_body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "MAX_QUARANTINED", 3)
    running = start()
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: running.post(task_body(task_id=f"t{n}"), key="nobody"), range(20)))
    assert sorted(answer.json()["result"] for answer in answers) == ["dropped"] * 17 + ["kept apart"] * 3
    assert running.http.get("/readyz").json()["unknown_submissions"]["dropped"] == 17


def test_what_nobody_collects_is_forgotten_at_the_start(
    start: Callable[..., Any], inbox: Inbox, delivery: Callable[..., Delivery], eventually: Any, monkeypatch: Any
) -> None:
    inbox.put([delivery(KEY)])
    monkeypatch.setattr("scrapedo_dagster.webhooks.app.KEPT", timedelta(seconds=-5))
    running = start()
    eventually(lambda: inbox.news([KEY]) == {})
    eventually(lambda: '"pruned", "deliveries": 1' in running.log())


def test_the_access_log_is_json_without_secrets(running: Any, task_body: Any) -> None:
    running.post(task_body(), key=f"{KEY}?token={SECRET}")
    running.post(task_body(), key=SECRET)
    running.post(b'{"TaskID": "x", "JobID": "\\n%s", "Status": "success"}' % SECRET.encode())
    running.post(b"{", secret="wrong")
    stored, apart, refused, forged = running.requests()
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
    assert apart["submission"] == "***"
    assert (refused["status"], forged["status"]) == (400, 401)
    assert "canary" not in running.log()


@pytest.mark.parametrize("before", range(1, len(SECRET), 4))
def test_a_secret_is_hidden_also_where_its_text_is_cut(before: int) -> None:
    output = io.StringIO()
    Log(output, Secrets((SECRET,))).write("request", path="x" * (300 - before) + SECRET + "y" * 100)
    assert "cana" not in output.getvalue()
    assert len(json.loads(output.getvalue())["path"]) <= 303


@pytest.mark.parametrize("shown", ["a+b/c=", "a%2Bb%2Fc%3D", "a%2bb%2fc%3d"])
def test_a_secret_is_hidden_also_where_it_is_percent_encoded(shown: str) -> None:
    output = io.StringIO()
    Log(output, Secrets((SECRET, "a+b/c=" * 4))).write("request", path=f"/{shown * 4}/")
    assert json.loads(output.getvalue())["path"] == "/***/"


HEADS = [
    b"POST /webhooks/scrape-do/x HTTP/1.1\r\nHost: [::\r\n",
    b"POST /webhooks/scrape-do/%FF%FE HTTP/1.1\r\nHost: \xff\r\n",
    b"POST http://[/webhooks/scrape-do/x HTTP/1.1\r\nHost: x\r\n",
    b"POST * HTTP/1.1\r\nHost: x\r\n",
    b"POST /webhooks/scrape-do/x HTTP/1.0\r\n",
    b"POST /webhooks/scrape-do/x HTTP/9.9\r\n",
    b"BREW /healthz HTTP/1.1\r\nHost: x\r\n",
    b"POST /webhooks/scrape-do/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n",
    b"POST /webhooks/scrape-do/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n",
    b"POST /webhooks/scrape-do/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, x\r\n",
    b"GET /webhooks/scrape-do/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"POST /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n",
]


@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
def test_requests_that_are_hardly_any_are_no_5xx(running: Any, task_body: Any, head: bytes) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head + f"{SECRET_HEADER}: {SECRET}\r\nConnection: close\r\n\r\n".encode() + task_body())
        client.settimeout(10)
        with suppress(ConnectionResetError):
            answer = client.recv(100)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), answer
    assert running.post(task_body()).status_code == 200


async def test_room_is_given_in_turn_and_given_back() -> None:
    room, order = Room(10), list[str]()

    async def work(name: str, amount: int, within: float = 10.0) -> None:
        async with room.taken(amount, within=within):
            order.append(name)
            await asyncio.sleep(0)

    async with room.taken(6, within=1):
        # The second would fit, but the first was there before.
        waiting = [asyncio.create_task(work("large", 10)), asyncio.create_task(work("small", 1))]
        late = asyncio.create_task(work("late", 10, within=0.01))
        with pytest.raises(asyncio.TimeoutError):
            await late
        assert order == []
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]
    async with room.taken(10, within=1):
        impatient = asyncio.create_task(work("impatient", 5))
        await asyncio.sleep(0)
        impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    await work("again", 10, within=1)
    assert order[-1] == "again"


async def test_who_gives_up_waiting_lets_those_behind_him_pass() -> None:
    room = Room(10)
    async with room.taken(6, within=1):
        large = asyncio.create_task(_hold(room, 10))
        await asyncio.sleep(0)
        small = asyncio.create_task(_hold(room, 4))
        await asyncio.sleep(0)
        assert not small.done()
        large.cancel()
        await asyncio.wait_for(small, 1)


async def _hold(room: Room, amount: int) -> None:
    async with room.taken(amount, within=10):
        pass


def test_a_log_on_a_full_disk_keeps_nothing_from_being_stored(
    start: Callable[..., Any], inbox: Inbox, task_body: Any
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    running = start(log=Log(Full(), Secrets((SECRET,))))
    assert running.post(task_body()).json() == {"result": "stored"}


def test_two_hundred_connections_at_once_are_served(running: Any, inbox: Inbox, task_body: Any) -> None:
    limits = httpx.Limits(max_connections=200)
    client = httpx.Client(base_url=running.url, limits=limits, timeout=60, trust_env=False)
    with client as http, ThreadPoolExecutor(200) as threads:

        def post(number: int) -> int:
            body = task_body(task_id=f"t{number}", Content="x" * 50_000)
            return http.post(PATH + KEY, content=body, headers=_own()).status_code

        assert set(threads.map(post, range(200))) == {200}
    assert len(inbox.news([KEY])[KEY]) == 200


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "SCRAPE_DO_WEBHOOK_SECRET is not set"),
        ({"SCRAPE_DO_WEBHOOK_SECRET": ""}, "SCRAPE_DO_WEBHOOK_SECRET is not set"),
        ({"SCRAPE_DO_WEBHOOK_SECRET": "short"}, "24 or more"),
        ({"SCRAPE_DO_WEBHOOK_SECRET": SECRET, "SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS": "short"}, "_PREVIOUS must have"),
    ],
)
def test_a_receiver_does_not_start_without_a_good_secret(environment: dict[str, str], told: str, tmp_path: Any) -> None:
    with pytest.raises(WebhookError, match=told):
        Secrets.from_environment(environment)
    names = ("SCRAPE_DO_WEBHOOK_SECRET", "SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS")
    cleared = dict.fromkeys(names)
    result = CliRunner().invoke(main, ["webhooks", "--inbox", str(tmp_path)], env={**cleared, **environment})
    assert (result.exit_code, told in result.output) == (1, True)


def test_the_command_needs_an_inbox_or_a_ledger() -> None:
    result = CliRunner().invoke(main, ["webhooks"], env={"SCRAPE_DO_WEBHOOK_SECRET": SECRET})
    assert result.exit_code == 2
    assert "Give --inbox, or --ledger-url" in result.output


def test_the_command_reads_the_inbox_from_the_environment() -> None:
    """It may have credentials, which everybody on a machine can see in a command."""
    environment = {"SCRAPE_DO_WEBHOOK_SECRET": SECRET, "SCRAPE_DO_WEBHOOK_INBOX": "s4://key:canary@bucket"}
    result = CliRunner().invoke(main, ["webhooks"], env=environment)
    assert (result.exit_code, "s4://bucket" in result.output, "canary" in result.output) == (1, True, False)


def test_secrets_are_shown_nowhere() -> None:
    assert "canary" not in repr(Secrets((SECRET,)))
