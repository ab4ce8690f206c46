"""The points at which a process can die: before, in and after every ledger statement, HTTP call and file operation.

Every point that is passed is written to a trail. At the point that was chosen the process ends on the spot.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from pyarrow import fs
from sqlalchemy.engine.default import DefaultDialect

from scrapedo_dagster.api.aiohttp_transport import AiohttpTransport
from scrapedo_dagster.api.commands import Call

_ON_THE_WAY = {
    "connection.connect_tcp.complete": "connected to",
    "http11.send_request_headers.complete": "half sent",
    "http11.send_request_body.complete": "sent",
    "http11.response_closed.complete": "read the answer to",
}


class Points:
    """Counts the points. Its name and how often it was passed make a point: `before POST /jobs #2`."""

    def __init__(self, trail: str, deadly: str | None, by: str) -> None:
        self._trail = os.open(trail, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._deadly = deadly
        self._by = by
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()  # batches are written in threads

    def __call__(self, name: str) -> None:
        with self._lock:
            self._passed[name] += 1
            point = f"{name} #{self._passed[name]}"
        os.write(self._trail, f"{point}\n".encode())
        if point == self._deadly:
            if self._by == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(99)

    def around(self, name: str, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self(f"before {name}")
        result = work(*args, **options)
        self(f"after {name}")
        return result


def watch_ledger(point: Points) -> None:
    """Statements and commits of every SQLAlchemy engine."""

    # Reading changes nothing: to die before it is to die after what came before it.
    def is_change(statement: str) -> bool:
        return statement.split()[0] in {"INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP"}

    def name(statement: str) -> str:
        return " ".join(statement.split()[:3])

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if is_change(statement):
            point(f"before {name(statement)}")

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if is_change(statement):
            point(f"after {name(statement)}")

    @sa.event.listens_for(sa.Pool, "connect")
    def connected(*_: Any) -> None:
        point("connected to the ledger")

    commit = DefaultDialect.do_commit
    DefaultDialect.do_commit = lambda self, connection: point.around("commit", commit, self, connection)


def watch_files(point: Points, below: Path) -> None:
    """What the engine does to files below a directory; a file is also left half written."""

    def watched(owner: Any, attribute: str) -> None:
        original = getattr(owner, attribute)

        def call(self: Path, *args: Any, **options: Any) -> Any:
            if not self.is_relative_to(below):
                return original(self, *args, **options)
            return point.around(f"{attribute} {_kind(self)}", original, self, *args, **options)

        setattr(owner, attribute, call)

    for attribute in ("replace", "unlink", "mkdir"):
        watched(Path, attribute)

    open_file, fsync, local = Path.open, os.fsync, fs.LocalFileSystem

    def watched_open(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if not self.is_relative_to(below) or mode == "rb":
            return open_file(self, mode, *args, **options)
        return _WatchedFile(point.around(f"open {_kind(self)}", open_file, self, mode, *args, **options), point)

    class WatchedFileSystem(local):  # type: ignore[misc, valid-type]
        """Files are deleted through Arrow, past Python's functions."""

        def delete_file(self, path: str) -> None:
            point.around("delete of an older part", super().delete_file, path)

    Path.open = watched_open  # type: ignore[method-assign, assignment]
    os.fsync = lambda fd: point.around("fsync", fsync, fd)
    fs.LocalFileSystem = WatchedFileSystem


def _kind(path: Path) -> str:
    return f"{'marker' if '_generation' in path.name else 'part' if 'part-' in path.name else 'directory'}"


class _WatchedFile:
    """A file that may be left half written: in its writes number 1, 4, 16 and so on, since Arrow makes a hundred."""

    def __init__(self, file: Any, point: Points) -> None:
        self._file = file
        self._point = point
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _WatchedFile:  # noqa: PYI034 - Self is of Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        self._writes += 1
        half = 0
        if self._writes in {4**power for power in range(10)}:
            half = self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._point("in write")
        return half + int(self._file.write(data[half:]))


class WatchedTransport(httpx.HTTPTransport):
    """Requests of the blocking client. A submission is also broken off on its way."""

    def __init__(self, point: Points) -> None:
        super().__init__(verify=False)
        self._point = point

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = _name_of(request.method, request.url.path)
        if request.method == "POST":
            request.extensions["trace"] = self._trace
        return self._point.around(name, super().handle_request, request)  # type: ignore[no-any-return]

    def _trace(self, event: str, _info: Any) -> None:
        if event in _ON_THE_WAY:
            self._point(f"{_ON_THE_WAY[event]} POST /jobs")


def watch_async_requests(point: Points) -> None:
    """Requests of the asyncio client."""
    send = AiohttpTransport.send

    async def watched(self: AiohttpTransport, call: Call, *args: Any) -> Any:
        name = _name_of(call.method, call.path)
        point(f"before {name}")
        outcome = await send(self, call, *args)
        point(f"after {name}")
        return outcome

    AiohttpTransport.send = watched  # type: ignore[method-assign]


def _name_of(method: str, path: str) -> str:
    """`POST /jobs`, `GET /jobs/*`: without the ids, which are others in every run."""
    first, *ids = path.removeprefix("/api/v1/").split("/")
    return " ".join([method, "/".join(["", first, *("*" for _ in ids)])])
