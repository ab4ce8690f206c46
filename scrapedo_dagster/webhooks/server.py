"""Serves the receiver with uvicorn."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from scrapedo_dagster.webhooks.app import Receiver, make_app

_IDLE_SECONDS = 20.0
_MOST_CONNECTIONS = 1000


class _Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP, but a connection on which no request begins for a while is closed.

    uvicorn itself waits for ever for the first request, for headers that come byte by byte, and for the rest of a body
    that was refused.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._seen = None
        self._look_again()

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle
        self._look_again()


def make_server(receiver: Receiver, host: str, port: int) -> uvicorn.Server:
    """A server that is not started."""
    config = uvicorn.Config(
        make_app(receiver),
        host=host,
        port=port,
        http=_Impatient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the app writes its own
        server_header=False,
        timeout_keep_alive=int(_IDLE_SECONDS),
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(receiver.request_seconds),
    )
    return uvicorn.Server(config)
