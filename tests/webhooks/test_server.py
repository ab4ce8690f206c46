"""What a client can take of the server: connections, headers and time are limited."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from scrapedo_dagster.engine.ledger.records import account_fingerprint
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER

SECRET = "canary-7f3a9c-current-secret"
KEY = f"{account_fingerprint('canary-7f3a9c')[:12]}-1"

pytestmark = pytest.mark.usefixtures("any_task")


_HEAD = f"POST {PATH}{KEY} HTTP/1.1\r\nHost: x\r\n".encode()


def is_closed(client: socket.socket) -> bool:
    """Read until the server closes the connection."""
    with suppress(ConnectionResetError):
        while client.recv(65536):
            pass
    return True


def is_refused(client: socket.socket) -> bool:
    """Send one more byte."""
    try:
        client.sendall(b"x")
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("sent", [b"", b"POST /x HTTP/1.1\r\nHo"])
def test_a_connection_without_a_whole_request_is_closed(start: Callable[..., Any], task_body: Any, sent: bytes) -> None:
    running = start(header_seconds=0.3)
    with running.connect() as silent:
        silent.sendall(sent)
        assert is_closed(silent)
    assert running.post(task_body()).status_code == 200


def test_a_connection_on_which_headers_come_byte_by_byte_is_closed(start: Callable[..., Any], eventually: Any) -> None:
    with start(header_seconds=0.3).connect() as slow:
        slow.sendall(_HEAD + b"a: ")
        eventually(lambda: is_refused(slow))


def test_the_rest_of_a_refused_body_is_not_waited_for(running: Any, eventually: Any) -> None:
    with running.connect() as slow:
        slow.sendall(_HEAD + b"Content-Length: 1000000\r\n\r\n")
        assert slow.recv(1000).startswith(b"HTTP/1.1 401 ")
        eventually(lambda: is_refused(slow))


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
    with running.connect() as greedy, suppress(ConnectionError):
        greedy.sendall(head)
        while sent < 64 * 2**20:
            greedy.sendall(more)
            sent += len(more)
    assert sent < 16 * 2**20, "what the two systems keep for a connection, and little more, was taken"
    assert running.post(task_body()).status_code == 200


def test_headers_of_fifty_kilobytes_are_read(running: Any, task_body: Any) -> None:
    assert running.post(task_body(), **{"X-Large": "y" * 50_000}).status_code == 200


def test_a_delivery_gets_through_while_silent_connections_take_all_places(
    start: Callable[..., Any], task_body: Any
) -> None:
    running = start(header_seconds=0.5, max_connections=20)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(running.connect())
        assert running.post(task_body()).status_code == 200


def test_a_server_stops_although_connections_are_open(start: Callable[..., Any], task_body: Any) -> None:
    running = start(header_seconds=0.5)
    with running.connect():
        assert running.post(task_body()).status_code == 200
        running.stop()


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
    with running.connect() as client:
        client.sendall(head + f"{SECRET_HEADER}: {SECRET}\r\nConnection: close\r\n\r\n".encode() + task_body())
        client.settimeout(10)
        with suppress(ConnectionResetError):
            answer = client.recv(100)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 200")), answer
    assert running.post(task_body()).status_code == 200
