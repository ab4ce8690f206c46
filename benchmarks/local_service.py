"""A minimal and fast Scrape.do Async API: a raw asyncio server in a separate process.

Every response is prepared bytes. Pages are slices of one text of 4 MB, so that neighboring pages share nothing that
compresses well, and start with the id of their task, so that no two are equal. Jobs are finished at once, unless
`status` is set.

```python
with Service(size=50_000) as service:
    service.set(latency=0.05)
    ...  # requests to service.url
    print(service.counts())
```
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property, lru_cache
from hashlib import md5
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from typing_extensions import Self

TOKEN = "benchmark"  # noqa: S105 - for a server on this machine
TEXT_BYTES = 4 * 1024 * 1024
_PREFIX = "/api/v1/"


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of the service.

    Attributes:
        latency: seconds before each response.
        size: size of a page in bytes.
        base64: whether pages are sent as base64.
        status: status of all jobs and tasks, such as `pending`.
        jobs: number of jobs that exist from the start: `job_id(0)`, `job_id(1)` ...
        tasks: number of tasks of each of these jobs.
    """

    latency: float = 0.0
    size: int = 50_000
    base64: bool = False
    status: str = "success"
    jobs: int = 0
    tasks: int = 1


def job_id(number: int) -> str:
    """Return the id of a job that exists from the start."""
    return _uuid(f"job {number}")


def task_ids(job: str, tasks: int) -> list[str]:
    """Return the ids of the tasks of a job."""
    return [_uuid(f"{job} {number}") for number in range(tasks)]


def urls(tasks: int, first: int = 0) -> list[str]:
    """Return different target URLs."""
    return [f"https://shop.example/catalogue/products/{number}?ref=benchmark" for number in range(first, first + tasks)]


def slices(size: int) -> list[str]:
    """Return 4 MB of different texts of `size` bytes, like the HTML of a shop: zstd compresses them to a quarter."""
    text = _text()
    return [text[start : start + size] for start in range(0, TEXT_BYTES - size + 1, size)]


@lru_cache(1)
def _text() -> str:
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgkjqxz", k=chance.randint(2, 11))) for _ in range(4000)]
    often = [1 / rank for rank in range(1, len(words) + 1)]  # word frequencies as in a language
    prose = iter(chance.choices(words, often, k=TEXT_BYTES // 8))
    text, length = list[str](), 0
    while length < TEXT_BYTES:
        number, price = chance.randrange(10**6), chance.randrange(100, 99999)
        name, description = (" ".join(next(prose) for _ in range(amount)) for amount in (4, 30))
        text.append(
            f'<article class="product-card" data-id="{number}">\n  <a class="product-link" href="/catalogue/products/'
            f'{number}">\n    <img class="thumbnail" src="/media/cache/{chance.getrandbits(64):x}.jpg" alt="{name}">\n'
            f'  </a>\n  <h3 class="title">{name}</h3>\n  <p class="price">{price / 100:.2f}</p>\n'
            f'  <p class="description">{description}</p>\n</article>\n'
        )
        length += len(text[-1])
    return "".join(text)


def _uuid(text: str) -> str:
    return str(UUID(bytes=md5(text.encode(), usedforsecurity=False).digest()))


class Control:
    """Controls a running service, from any process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def set(self, **settings: Any) -> None:
        """Change some of the `ServiceSettings`, and reset the counts."""
        self._post("set", settings)

    def forget(self) -> None:
        """Delete the submitted jobs."""
        self._post("forget", {})

    def counts(self) -> Counts:
        """Return the counts since the last `set`."""
        return Counts(**self._post("counts", {}))

    def _post(self, command: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/control/{command}", json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return cast("dict[str, Any]", json.load(response))


class Service(Control):
    """The service in a separate process, until the `with` block ends. `url` is its base URL."""

    def __init__(self, **settings: Any) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        super().__init__(f"http://127.0.0.1:{cast('IO[str]', self._process.stdout).readline().strip()}")
        self.set(**settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cast("IO[str]", self._process.stdin).close()
        self._process.wait()


@dataclass
class Counts:
    """Accepted TCP connections, and requests by endpoint: `task`, `job`, `jobs`, `create`, `cancel`, `me`.

    `fetching` is the seconds from the first request for a task to the last response to one. `cpu` is the seconds of CPU
    time of the server.
    """

    connections: int
    requests: dict[str, int]
    fetching: float
    cpu: float


# The rest of the file runs in the process of the server.


@dataclass
class _Job:
    id: str
    targets: Sequence[str]
    began: datetime

    @cached_property
    def task_ids(self) -> list[str]:
        return task_ids(self.id, len(self.targets))

    @cached_property
    def number_of(self) -> dict[str, int]:
        return {task_id: number for number, task_id in enumerate(self.task_ids)}

    def summary(self, status: str) -> dict[str, Any]:
        began = self.began.isoformat().replace("+00:00", "Z")
        ended = began if status == "success" else None
        return {"JobID": self.id, "Status": status, "TaskIDs": self.task_ids, "StartTime": began, "EndTime": ended}

    def details(self, status: str) -> dict[str, Any]:
        tasks = zip(self.task_ids, self.targets, strict=True)
        return {
            **self.summary(status),
            "AcquiredConcurrency": 0,
            "LimitConcurrency": 0,
            "Canceled": False,
            "Tasks": [{"TaskID": task_id, "URL": url, "Status": status} for task_id, url in tasks],
        }


@dataclass
class _State:
    """State of the service."""

    settings: ServiceSettings = field(default_factory=ServiceSettings)
    submitted: dict[str, _Job] = field(default_factory=dict)
    seeded: dict[str, _Job] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    pages: list[bytes] = field(default_factory=list)
    tails: tuple[bytes, bytes] = (b"", b"")
    connections: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    first: float = 0.0
    last: float = 0.0
    cpu: float = 0.0
    created: int = 0

    def set(self, changed: dict[str, Any]) -> None:
        settings = self.settings = ServiceSettings(**{**asdict(self.settings), **changed})
        self.bodies.clear()
        if not self.pages or {"size", "base64"} & set(changed):
            ends = slices(settings.size - len(_beginning("")))
            encoded = [base64.b64encode(each.encode()).decode() for each in ends] if settings.base64 else ends
            self.pages = [json.dumps(each)[1:].encode() for each in encoded]
        if {"jobs", "tasks"} & set(changed):
            began, targets = datetime.now(timezone.utc), urls(settings.tasks)
            seeded = [_Job(job_id(n), targets, began + timedelta(microseconds=n)) for n in range(settings.jobs)]
            self.seeded = {each.id: each for each in seeded}
        self.tails = _around_content(settings)
        self.connections, self.first, self.last, self.cpu = 0, 0.0, 0.0, time.process_time()
        self.requests.clear()

    def counts(self) -> Counts:
        return Counts(
            connections=self.connections - 1,  # without the one of this request
            requests=dict(self.requests),
            fetching=self.last - self.first,
            cpu=time.process_time() - self.cpu,
        )

    def job(self, name: str) -> _Job | None:
        return self.submitted.get(name) or self.seeded.get(name)

    def task(self, name: str, task_id: str) -> bytes | None:
        job = self.job(name)
        number = None if job is None else job.number_of.get(task_id)
        if job is None or number is None:
            return None
        head = f'{{"TaskID":"{task_id}","JobID":"{name}","URL":"{job.targets[number]}","TraceID":"{task_id}",'
        before, after = self.tails
        beginning = _beginning(task_id)
        if self.settings.base64:
            beginning = base64.b64encode(beginning)
        page = self.pages[(int(name[:8], 16) + number) % len(self.pages)]
        return b"".join((head.encode(), before, beginning, page, after))

    def details(self, name: str) -> bytes | None:
        job = self.job(name)
        if job is None:
            return None
        if name not in self.bodies:
            self.bodies[name] = json.dumps(job.details(self.settings.status)).encode()
        return self.bodies[name]

    def create(self, body: bytes) -> bytes:
        self.created += 1
        job = _Job(_uuid(f"submitted {self.created}"), json.loads(body)["Targets"], datetime.now(timezone.utc))
        self.submitted[job.id] = job
        return json.dumps({"JobID": job.id, "Message": "Job created", "TaskIDs": job.task_ids}).encode()

    def listing(self, query: dict[str, list[str]]) -> bytes:
        jobs = [*self.seeded.values(), *self.submitted.values()]
        if "start_from" in query:
            since = datetime.fromisoformat(query["start_from"][0].replace("Z", "+00:00"))
            jobs = [each for each in jobs if each.began >= since]
        if query.get("sort", ["start_time_desc"])[0] == "start_time_desc":
            jobs.reverse()
        size, page = int(query.get("page_size", ["10"])[0]), int(query.get("page", ["1"])[0])
        shown = jobs[(page - 1) * size : page * size]
        status = self.settings.status
        return json.dumps(
            {
                "Jobs": [each.summary(status) for each in shown],
                "TotalCount": len(jobs),
                "PageSize": size,
                "PageNumber": page,
                "TotalPages": -(-len(jobs) // size),
            }
        ).encode()


def _beginning(task_id: str) -> bytes:
    """Return the first 45 bytes of the page of a task, which are 60 in base64 without padding."""
    return f"<!-- {task_id:36} -->".encode()


def _around_content(settings: ServiceSettings) -> tuple[bytes, bytes]:
    """Return the bytes before and after the content of a task."""
    fields = {
        "Status": settings.status,
        "StatusCode": 200,
        "StartTime": "2026-01-01T00:00:00.123456789Z",
        "EndTime": "2026-01-01T00:00:02.23456789Z",
        "ExpiresAt": "2126-01-01T00:00:00Z",
        "UpdateTime": "2026-01-01T00:00:02.23456789Z",
        "Base64EncodedContent": settings.base64,
        "ResponseHeaders": {
            "Cache-Control": "max-age=0, private, must-revalidate",
            "Content-Type": "text/html; charset=utf-8",
            "Date": "Thu, 01 Jan 2026 00:00:02 GMT",
            "Server": "benchmark",
            "Vary": "Accept-Encoding",
            "X-Request-Id": "0a16f386-a422-49fa-9c40-45cfbed4a596",
        },
        "Scrape.do": {"Credits-Used": "1", "Remaining-Credits": "1000000"},
        "ErrorMessage": None,
    }
    return json.dumps(fields).encode()[1:-1] + b',"Content":"', b"}"


_ME = json.dumps(
    {"TotalConcurrency": 60, "FreeConcurrency": 60, "ActiveJobs": 0, "AvaliableCredits": 10_000_000}
).encode()
_MISSING = b'{"Error":"not found","Code":404}'


class _Protocol(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self.state, self.received = state, b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.state.connections += 1

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head, length = self.received[:end], 0
            if not head.startswith(b"GET"):
                found = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                length = int(found or 0)
            if len(self.received) < end + 4 + length:
                return
            body, self.received = self.received[end + 4 : end + 4 + length], self.received[end + 4 + length :]
            method, path, _ = head.split(b" ", 2)
            self.request(method.decode(), path.decode(), body)

    def request(self, method: str, path: str, body: bytes) -> None:
        state = self.state
        if path.startswith("/control/"):
            self.answer(state, "control", _control(state, path, body))
            return
        parts = urlsplit(path)
        kind, _, rest = parts.path.removeprefix(_PREFIX).partition("/")
        name, _, task_id = rest.partition("/")
        endpoint = _endpoint(method, kind, name, task_id)
        state.requests[endpoint] += 1
        if endpoint == "task" and not state.first:
            state.first = time.perf_counter()
        if endpoint == "task":
            # Built when it is sent, so that delayed responses take no memory.
            self.soon(lambda: self.answer(state, endpoint, state.task(name, task_id)))
        else:
            answer = _answer(state, endpoint, name, parts.query, body)
            self.soon(lambda: self.answer(state, endpoint, answer))

    def soon(self, answer: Any) -> None:
        if self.state.settings.latency:
            self.loop.call_later(self.state.settings.latency, answer)
        else:
            answer()

    def answer(self, state: _State, endpoint: str, body: bytes | None) -> None:
        status = b"200 OK" if body is not None else b"404 Not Found"
        body = _MISSING if body is None else body
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head)
        self.transport.write(body)
        if endpoint == "task":
            state.last = time.perf_counter()


def _endpoint(method: str, kind: str, name: str, task_id: str) -> str:
    if kind == "me":
        return "me"
    if method == "POST":
        return "create"
    if method == "DELETE":
        return "cancel"
    return "task" if task_id else "job" if name else "jobs"


def _answer(state: _State, endpoint: str, name: str, query: str, body: bytes) -> bytes | None:
    if endpoint == "me":
        return _ME
    if endpoint == "create":
        return state.create(body)
    if endpoint == "jobs":
        return state.listing(parse_qs(query))
    details = state.details(name)
    return details and details.replace(b'"Canceled": false', b'"Canceled": true') if endpoint == "cancel" else details


def _control(state: _State, path: str, body: bytes) -> bytes:
    if path == "/control/set":
        state.set(json.loads(body))
    elif path == "/control/forget":
        state.submitted.clear()
        state.bodies.clear()
    return json.dumps(asdict(state.counts())).encode()


async def _serve() -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(state), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - read by the parent process
    await server.serve_forever()


def _end_with_parent() -> None:
    """End when the parent process closes the pipe or dies."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Print the port, and serve until standard input ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        import uvloop
    except ImportError:  # not available on Windows
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


if __name__ == "__main__":
    main()
