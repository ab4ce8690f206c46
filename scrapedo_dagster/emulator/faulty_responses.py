"""Faulty responses: connection dropped, response truncated, no response.

ASGI cannot close a connection, so `FaultyProtocol` adds the transport of the connection to the scope.
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
    """HTTP/1.1 protocol of uvicorn that adds its transport to the scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the application for this connection."""
        super().connection_made(transport)
        inner: Any = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope[_TRANSPORT] = transport
            await inner(scope, receive, send)

        self.app = app


class DroppedConnection(Response):
    """Closes the connection without a response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close, and wait for the disconnect: uvicorn responds with 500 for an application that returns too early."""
        scope[_TRANSPORT].close()
        await _disconnected(receive)


class TruncatedResponse(Response):
    """Announces the full length of a response, sends half of it, and closes the connection."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first half. Closing the transport flushes it."""
        body = bytes(self._response.body)
        await send(
            {
                "type": "http.response.start",
                "status": self._response.status_code,
                "headers": self._response.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        scope[_TRANSPORT].close()
        await _disconnected(receive)


class HangingResponse(Response):
    """Never responds. Ends when the client disconnects or when `stopping` is set."""

    def __init__(self, stopping: asyncio.Event) -> None:
        super().__init__()
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the disconnect or for `stopping`."""
        disconnect = asyncio.ensure_future(_disconnected(receive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({disconnect, stopping}, return_when=asyncio.FIRST_COMPLETED)
            scope[_TRANSPORT].close()
            await disconnect
        finally:
            stopping.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
