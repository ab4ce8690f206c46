"""Answers that go wrong on the wire: dropped, cut short, never sent.

ASGI has no word for closing a connection, so `FaultyProtocol` hands the connection's transport to the
application in the scope.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_TRANSPORT: Final = "scrapedo_dagster.transport"


class FaultyProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, whose application can reach the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the application for this one connection."""
        super().connection_made(transport)
        inner: Any = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope[_TRANSPORT] = transport
            await inner(scope, receive, send)

        self.app = app


class Dropped(Response):
    """Closes the connection without a byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close, and wait until the server has noticed: an application that returns early is answered for with 500."""
        scope[_TRANSPORT].close()
        await _gone(receive)


class Truncated(Response):
    """Announces the whole length of an answer, sends half of it, and closes the connection."""

    def __init__(self, whole: Response) -> None:
        super().__init__()
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first half; closing lets what is written go out first."""
        body = bytes(self._whole.body)
        await send(
            {
                "type": "http.response.start",
                "status": self._whole.status_code,
                "headers": self._whole.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        scope[_TRANSPORT].close()
        await _gone(receive)


class Hanging(Response):
    """Never answers. Ends when the client gives up, or when `stopping` is set."""

    def __init__(self, stopping: asyncio.Event) -> None:
        super().__init__()
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait."""
        leaving = asyncio.ensure_future(_gone(receive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            scope[_TRANSPORT].close()
            await leaving
        finally:
            stopping.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
