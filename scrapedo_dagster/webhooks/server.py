"""Serves the receiver with uvicorn, to whoever is on the internet."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from scrapedo_dagster.webhooks.app import Receiver, make_app
from scrapedo_dagster.webhooks.log import Log

_MOST_CONNECTIONS = 1000
_RESERVE = 100  # file descriptors for all that is no connection
_HEAD_SECONDS = 5.0  # for the headers of a request
_IDLE_SECONDS = 20.0
_MOST_HEAD = 64 * 1024  # bytes of a request's URL, headers and trailers
_MOST_IGNORED = 1024 * 1024  # bytes of a body that come after the answer
_REPORT_EVERY = 5.0  # seconds, at most, between two lines of the log about connections


class _Door:
    """Which connections there are. Where there are too many, the one that has waited longest without a request goes."""

    def __init__(self, log: Log) -> None:
        self.waiting: dict[_Guarded, None] = {}
        self._log = log
        self._most = most_connections()
        self._closed = 0
        self._told_at = float("-inf")

    def enter(self, connection: _Guarded, amount: int) -> None:
        """There is a new one, and so many with it."""
        self.waiting[connection] = None
        if amount <= self._most:
            return
        longest = next(iter(self.waiting))  # the new one, where all others are at work
        del self.waiting[longest]
        longest.transport.abort()
        self._closed += 1
        if time.monotonic() - self._told_at >= _REPORT_EVERY:
            self._log.write("too many connections", most=self._most, closed=self._closed)
            self._closed, self._told_at = 0, time.monotonic()


class _TooMuchError(Exception):
    """More headers than anybody needs."""


class _Guarded(HttpToolsProtocol):
    """uvicorn's HTTP, with an end to everything that a client can send or leave out.

    uvicorn itself keeps headers and trailers of any size, and waits for ever for the first request, for headers that
    come byte by byte, and for the rest of a body that was refused.
    """

    def __init__(self, *args: Any, door: _Door, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._door = door
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0  # bytes of URL, headers and trailers of this request
        self._unseen = 0  # bytes since the parser has told anything but these: it may be keeping them
        self._ignored = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._door.enter(self, len(self.connections))
        self._wait(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.waiting.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unseen += len(data)
        super().data_received(data)
        if self._unseen > _MOST_HEAD or self._ignored > _MOST_IGNORED:
            self._refuse()

    def on_message_begin(self) -> None:
        self._head = self._unseen = 0
        self._wait(_HEAD_SECONDS)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unseen = self._ignored = 0
        self._stop_waiting()
        self._door.waiting.pop(self, None)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._unseen = 0

    def on_body(self, body: bytes) -> None:
        self._unseen = 0
        if self.cycle.response_complete:
            self._ignored += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._door.waiting[self] = None
            self._wait(_IDLE_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses, which is also what `_count` does."""
        if self._head > _MOST_HEAD:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _count(self, amount: int) -> None:
        self._head += amount
        if self._head > _MOST_HEAD:
            raise _TooMuchError

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_idle and not self._ignored:
            self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
        else:
            self.transport.abort()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._waited)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _waited(self) -> None:
        if self._is_idle:
            self.transport.abort()
        else:
            self._wait(_IDLE_SECONDS)  # the next request is coming, and this one is at work


def most_connections() -> int:
    """How many connections there may be: as many as the system lets us open files, and some less."""
    if sys.platform == "win32":
        return _MOST_CONNECTIONS
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        _MOST_CONNECTIONS if allowed == resource.RLIM_INFINITY else max(1, min(_MOST_CONNECTIONS, allowed - _RESERVE))
    )


def make_server(receiver: Receiver, host: str, port: int) -> uvicorn.Server:
    """A server that is not started."""
    config = uvicorn.Config(
        make_app(receiver),
        host=host,
        port=port,
        http=cast("type[asyncio.Protocol]", partial(_Guarded, door=_Door(receiver.log))),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the app writes its own
        server_header=False,
        timeout_keep_alive=int(_IDLE_SECONDS),
        timeout_graceful_shutdown=int(receiver.request_seconds),
    )
    return uvicorn.Server(config)
