"""Serves the receiver with Granian, which limits connections, headers and the time for them."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from granian.utils.proxies import wrap_asgi_with_proxy_headers

from scrapedo_dagster.webhooks.app import Receiver, make_app


def make_server(receiver: Receiver, host: str, port: int) -> Server:
    """Return a server that is not started. `await server.serve()` serves until `server.stop()`."""
    limits = receiver.limits
    trusted_proxies = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
    return Server(
        wrap_asgi_with_proxy_headers(make_app(receiver), trusted_proxies),
        host,
        port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        backpressure=limits.max_connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(limits.header_seconds * 1000), max_buffer_size=limits.max_header
        ),
        log_enabled=False,  # the app writes the access log
    )


async def serve(receiver: Receiver, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Requests that have begun are answered."""
    server = make_server(receiver, host, port)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends the process
            loop.add_signal_handler(each, server.stop)
    await server.serve()
