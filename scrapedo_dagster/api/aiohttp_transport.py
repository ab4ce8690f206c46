"""httpx's transport over aiohttp, with errors that can be trusted.

httpx's own connection pool becomes slower with every connection above about eight; aiohttp's does not. This is imported
when a client is made: aiohttp takes a moment to load.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


class TruthfulAiohttpTransport(AiohttpTransport):
    """`AiohttpTransport`, which keeps no cookies, sends a request once, and says truly whether it was sent.

    aiohttp repeats a GET whose connection broke, which our own retries do; and `AiohttpTransport` calls that a
    connection that was not made (`httpx.ConnectTimeout`), by which a submission would pass for one that did not arrive,
    and be sent and paid twice.
    """

    def get_client(self) -> aiohttp.ClientSession:
        """The session of this transport; it is made in the event loop that uses it."""
        connector = aiohttp.TCPConnector(
            limit=self.limits.max_connections or 0,  # 0: no limit
            keepalive_timeout=self.limits.keepalive_expiry,
            ssl=self.ssl_context,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), middlewares=[_once])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the body of the answer is not read yet.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: it was not sent.
            httpx.TransportError: it may have been.
        """
        with _truthful_errors():
            response = await super().handle_async_request(request)
        response.stream = _Body(response)
        return response


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response) -> None:
        self._stream = cast("httpx.AsyncByteStream", response.stream)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _truthful_errors():
            async for chunk in self._stream:
                yield chunk

    async def aclose(self) -> None:
        with _truthful_errors():
            await self._stream.aclose()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware of aiohttp, which turns what it would repeat into what it does not."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientPayloadError(str(error)) from error


@contextmanager
def _truthful_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        cause = error.__cause__
        is_late = isinstance(cause, aiohttp.ConnectionTimeoutError)
        is_refused = isinstance(cause, aiohttp.ClientConnectorError)
        kind = httpx.ConnectTimeout if is_late else httpx.ConnectError if is_refused else httpx.ReadError
        raise kind(str(error)) from cause
    except aiohttp.ClientError as error:  # one that is not mapped at all, such as for an answer that is not HTTP
        raise httpx.RemoteProtocolError(str(error)) from error
