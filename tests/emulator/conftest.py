"""A site to scrape, emulators to scrape it with, and a raw HTTP client."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from scrapedo_dagster.emulator import Emulator, EmulatorSettings, Faults

TOKEN = "a-secret-token"


class Site:
    """Serves pages by path, and records the requests."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.received: list[dict[str, Any]] = []
        self.answers: dict[str, list[int]] = {}
        self.at_once = 0
        self.most_at_once = 0
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                site.handle(self)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.handle_any
                raise AttributeError(name)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self.lock:
            self.hits[url.path] += 1
            self.received.append(
                {
                    "method": request.command,
                    "path": url.path,
                    "headers": dict(request.headers),
                    "body": body.decode(),
                }
            )
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.gate.wait(30)
            self._answer(request, url.path, query, body)
        except OSError:
            pass  # the emulator gave up on us
        finally:
            with self.lock:
                self.at_once -= 1

    def _answer(self, request: BaseHTTPRequestHandler, path: str, query: dict[str, str], body: bytes) -> None:
        status, headers, content = 200, [("Content-Type", "text/html; charset=utf-8")], b"<h1>Hello</h1>"
        with self.lock:
            planned = self.answers.get(path)
            planned_status = planned.pop(0) if planned else None
        if planned_status is not None:
            status = planned_status
        elif path.startswith("/status/"):
            status = int(path.rsplit("/", 1)[1])
        elif path == "/umlaut":
            content = "<p>Zürich ☂</p>".encode()
        elif path == "/binary":
            headers, content = [("Content-Type", "image/png")], b"\x89PNG\r\n\xff\xfe\x00"
        elif path == "/latin1":
            headers, content = [("Content-Type", "text/html; charset=iso-8859-1")], "<b>caf\xe9</b>".encode("latin-1")
        elif path == "/gzip":
            headers = [*headers, ("Content-Encoding", "gzip")]
            content = gzip.compress(b"unpacked")
        elif path == "/sized":
            content = b"x" * int(query["bytes"])
        elif path == "/redirect":
            status, headers, content = 302, [("Location", query["to"])], b"moved"
        elif path == "/loop":
            status, headers, content = 302, [("Location", "/loop")], b""
        elif path == "/odd-charset":
            headers = [("Content-Type", "text/html; charset=klingon")]
            content = "<b>café</b>".encode()
        elif path == "/set-cookie":
            status = 302
            headers, content = [("Location", "/echo"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b""
        elif path == "/cookies":
            headers = [*headers, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        elif path == "/echo":
            headers = [("Content-Type", "application/json")]
            content = json.dumps(
                {"method": request.command, "headers": dict(request.headers), "body": body.decode()}
            ).encode()
        elif path == "/broken":
            request.close_connection = True
            return
        elif path == "/half":
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"only this")
            request.close_connection = True
            return
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)


class RawApi:
    """The Async API over plain HTTP."""

    def __init__(self, emulator: Emulator, token: str = TOKEN) -> None:
        self.emulator = emulator
        # There is no TLS here, and reading all certificates takes longer than most tests.
        options: Any = {"timeout": 30, "trust_env": False, "verify": False}
        self.http = httpx.Client(base_url=f"{emulator.base_url}/api/v1", headers={"X-Token": token}, **options)
        self.admin = httpx.Client(base_url=f"{emulator.base_url}/admin", **options)

    def close(self) -> None:
        self.http.close()
        self.admin.close()

    def post(self, **body: Any) -> httpx.Response:
        return self.http.post("/jobs", json=body)

    def create(self, *targets: str, **body: Any) -> str:
        if targets:
            body["Targets"] = list(targets)
        response = self.post(**body)
        assert response.status_code == 200, response.text
        return response.json()["JobID"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self._json(f"/jobs/{job_id}")

    def task(self, job_id: str, task_id: str) -> dict[str, Any]:
        return self._json(f"/jobs/{job_id}/{task_id}")

    def list(self, **params: Any) -> dict[str, Any]:
        return self._json("/jobs", params)

    def me(self) -> dict[str, Any]:
        return self._json("/me")

    def cancel(self, job_id: str) -> httpx.Response:
        return self.http.delete(f"/jobs/{job_id}")

    def finished(self, job_id: str) -> dict[str, Any]:
        """Return the job once all its tasks have ended."""
        terminal = {"success", "error", "canceled"}

        def ended() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if {task["Status"] for task in job["Tasks"]} <= terminal else None

        return eventually_of(ended)

    def scrape(self, *targets: str, **body: Any) -> list[dict[str, Any]]:
        """Return the finished tasks of a new job, in the order of its targets."""
        job_id = self.create(*targets, **body)
        return [self.task(job_id, task_id) for task_id in self.finished(job_id)["TaskIDs"]]

    def scrape_one(self, *targets: str, **body: Any) -> dict[str, Any]:
        (task,) = self.scrape(*targets, **body)
        return task

    def _json(self, path: str, params: Any = None) -> dict[str, Any]:
        response = self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()


def eventually_of(probe: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`eventually(probe)` returns the first true value of `probe()`, and fails after a deadline."""
    return eventually_of


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def start() -> Iterator[Callable[..., RawApi]]:
    """Starts fast emulators: `start(plan="pro", faults={...})` or with any field of EmulatorSettings."""
    with ExitStack() as stack:

        def starter(**options: Any) -> RawApi:
            faults = options.pop("faults", {})
            defaults = {"token": TOKEN, "speed": 1000.0}
            settings = EmulatorSettings(**{**defaults, **options, "faults": Faults.parse(faults)})
            api = RawApi(stack.enter_context(Emulator(settings=settings)))
            stack.callback(api.close)
            return api

        yield starter


@pytest.fixture
def api(start: Callable[..., RawApi]) -> RawApi:
    """A fast emulator for one test."""
    return start()


@pytest.fixture(scope="module")
def shared_api() -> Iterator[RawApi]:
    """An emulator shared by tests that do not affect each other."""
    with Emulator(token=TOKEN, speed=1000.0) as emulator:
        api = RawApi(emulator)
        yield api
        api.close()
