"""A scripted server on a loopback socket, and both clients behind a blocking interface."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import pickle
import socket
import ssl
import struct
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, settings

from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, Backoff, RetryPolicy, ScrapeDoAsyncAPIClient

# A machine that is busy with other tests is slow, and not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

TOKEN = "tok-5e1f00d5ecret"
DEADLINE = 10.0
QUICK = Backoff(initial=0.001, maximum=0.002)


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Talk = Callable[[socket.socket, Request], bool]
"""Responds on the socket, and returns whether the connection stays open."""


class Replies:
    """What a server can do with a request."""

    @staticmethod
    def raw(status: int, body: bytes, **headers: str) -> Talk:
        head = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in head.items()), "", ""]

        def talk(connection: socket.socket, request: Request) -> bool:
            connection.sendall("\r\n".join(lines).encode() + body)
            return True

        return talk

    @classmethod
    def json(cls, body: Any, status: int = 200, **headers: str) -> Talk:
        return cls.raw(status, json.dumps(body).encode(), **{"Content_Type": "application/json", **headers})

    @classmethod
    def error(cls, status: int, message: str = "service error", **headers: str) -> Talk:
        return cls.json({"Error": message, "Code": status}, status, **headers)

    @classmethod
    def html(cls, status: int = 200) -> Talk:
        return cls.raw(status, b"<html><body>Service error</body></html>", Content_Type="text/html; charset=utf-8")

    @staticmethod
    def lost(connection: socket.socket, request: Request) -> bool:
        """Close the connection without a response."""
        return False

    @staticmethod
    def reset(connection: socket.socket, request: Request) -> bool:
        """Reset the connection without a response."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    @staticmethod
    def truncated(connection: socket.socket, request: Request) -> bool:
        """Close the connection in the middle of the response."""
        connection.sendall(
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"JobID": "j'
        )
        return False

    @staticmethod
    def hanging(connection: socket.socket, request: Request) -> bool:
        """Send no response, until the client disconnects."""
        connection.settimeout(DEADLINE)
        with suppress(OSError):
            connection.recv(1)
        return False

    @staticmethod
    def once_in_flight(amount: int, then: Callable[[Request], Talk]) -> Talk:
        """Respond only once `amount` requests wait at the same time."""
        meeting = threading.Barrier(amount)

        def talk(connection: socket.socket, request: Request) -> bool:
            try:
                meeting.wait(DEADLINE)
            except threading.BrokenBarrierError:
                return Replies.error(500, "never so many requests in flight")(connection, request)
            return then(request)(connection, request)

        return talk


@dataclass
class Server:
    """Sends scripted responses in order, repeating the last one. Records the requests."""

    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    _script: defaultdict[tuple[str, str], list[Talk]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: set[socket.socket] = field(default_factory=set)
    _listener: socket.socket = field(default_factory=socket.socket)

    def __post_init__(self) -> None:
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def listen(self) -> None:
        """Accept connections, which are refused until then."""
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def on(self, method: str, path: str, *replies: Talk) -> Server:
        self._script[method, f"/api/v1{path}"].extend(replies)
        return self

    def count(self, method: str, path: str | None = None) -> int:
        return len(self.received(method, path))

    def received(self, method: str, path: str | None = None) -> list[Request]:
        with self._lock:
            return [r for r in self.requests if r.method == method and path in (None, r.path.removeprefix("/api/v1"))]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open.add(connection)
                    self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while (request := _read(stream)) is not None:
                with self._lock:
                    self.requests.append(request)
                    replies = self._script.get((request.method, request.path), [])
                    reply = replies.pop(0) if len(replies) > 1 else (replies or [Replies.error(404, "not scripted")])[0]
                if not reply(connection, request):
                    break
        with self._lock:
            self._open.discard(connection)


def _read(stream: Any) -> Request | None:
    first = stream.readline().decode()
    if not first:
        return None
    method, target, _ = first.split()
    headers: dict[str, str] = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    return Request(method, unquote(parts.path), query, headers, body, time.monotonic())


class Blocking:
    """The asyncio client as a blocking one, so that a test works with both clients."""

    def __init__(self, client: AsyncScrapeDoAsyncAPIClient) -> None:
        self.wrapped = client
        self._loop = asyncio.new_event_loop()

    def __repr__(self) -> str:
        return repr(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.wrapped, name)
        return functools.partial(self._call, method) if callable(method) else method

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if inspect.isasyncgen(result):
            return self._all(result)
        return self._loop.run_until_complete(result)

    def _all(self, generator: Any) -> Iterator[Any]:
        with suppress(StopAsyncIteration):
            while True:
                yield self._loop.run_until_complete(anext(generator))

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.run_until_complete(self.wrapped.close())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


_one_tls_context = functools.cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def _quick_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share one TLS context: each httpx client would load all certificates, which takes longer than most tests."""
    monkeypatch.setattr(ssl, "create_default_context", _one_tls_context)


@pytest.fixture(autouse=True)
def _no_proxies_nor_token_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SCRAPE_DO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def quick() -> Backoff:
    """A backoff with negligible pauses."""
    return QUICK


@pytest.fixture
def reply() -> type[Replies]:
    return Replies


@pytest.fixture
def silent_server() -> Iterator[Server]:
    """A server that refuses connections until `listen` is called."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(silent_server: Server) -> Server:
    silent_server.listen()
    return silent_server


@pytest.fixture(params=["blocking", "asyncio"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(flavour: str, silent_server: Server) -> Iterator[Callable[..., Any]]:
    """Creates clients of the scripted server; every setting can be overridden."""
    clients: list[Any] = []

    def make(api_token: str | None = TOKEN, **settings: Any) -> Any:
        settings = {
            "base_url": silent_server.url,
            "timeout": 5.0,
            "retry": RetryPolicy(attempts=3, backoff=QUICK),
            **settings,
        }
        if flavour == "blocking":
            clients.append(ScrapeDoAsyncAPIClient(api_token, **settings))
        else:
            clients.append(Blocking(AsyncScrapeDoAsyncAPIClient(api_token, **settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[..., Any], server: Server) -> Any:
    """A client of the scripted server; each test runs with the blocking and with the asyncio one."""
    return connect()


@pytest.fixture
def job() -> Callable[..., dict[str, Any]]:
    """A job as in a response of the service."""

    def make(job_id: str = "j1", status: str = "success", urls: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
        tasks = [{"TaskID": f"t{i}", "URL": url, "Status": "success"} for i, url in enumerate(urls)]
        return {"JobID": job_id, "TaskIDs": [t["TaskID"] for t in tasks], "Status": status, "Tasks": tasks, **more}

    return make


@pytest.fixture
def task() -> Callable[..., dict[str, Any]]:
    """A task as in a response of the service."""

    def make(task_id: str, url: str, job_id: str = "j1", status: str = "success", **more: Any) -> dict[str, Any]:
        known = {"TaskID": task_id, "JobID": job_id, "URL": url, "Status": status, "StatusCode": 200}
        return {**known, "Content": f"page of {task_id}", "Base64EncodedContent": False, **more}

    return make


@pytest.fixture
def everything_an_error_shows() -> Callable[[BaseException], str]:
    """Everything that logs, tracebacks or pickling could show of an error, its causes and their requests."""

    def tell(error: BaseException) -> str:
        said = ["".join(traceback.format_exception(error))]
        link: BaseException | None = error
        seen: set[int] = set()
        chain = [link]
        while chain:
            link = chain.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            chain += [link.__cause__, link.__context__]
            said += [str(link), repr(link), repr(link.args), repr(vars(link))]
            for name in ("request", "response"):
                with suppress(Exception):
                    said += [repr(getattr(link, name).headers), repr(getattr(link, name).headers.raw)]
            with suppress(Exception):
                said.append(repr(pickle.dumps(link)))
        return "\n".join(said)

    return tell
