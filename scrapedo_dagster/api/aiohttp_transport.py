"""httpx's transport over aiohttp, with errors that can be trusted.

httpx's own connection pool becomes slower with every connection above about eight; aiohttp's does not. This is imported
when a client is made: aiohttp takes a moment to load.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NoReturn, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream

_FAILURES = (httpx.TransportError, aiohttp.ClientError)  # some of aiohttp's are not mapped to httpx's
_CHUNK = 1024 * 1024  # bytes; most answers then pass through httpx in one piece


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
        try:
            response = await super().handle_async_request(request)
        except _FAILURES as error:
            _raise_truthfully(error)
        response.stream = _Body(response)
        return response


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response) -> None:
        self._stream = cast("AiohttpResponseStream", response.stream)
        self._stream.CHUNK_SIZE = _CHUNK

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except _FAILURES as error:
            _raise_truthfully(error)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware of aiohttp, which turns what it would repeat into what it does not."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientPayloadError(str(error)) from error


def _raise_truthfully(error: Exception) -> NoReturn:
    """Raise what is known of the request, by the error of aiohttp where there is one."""
    mapped = isinstance(error, httpx.TransportError)
    cause = error.__cause__ if mapped else error
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        raise httpx.ConnectTimeout(str(error)) from cause
    if isinstance(cause, aiohttp.ClientConnectorError):
        raise httpx.ConnectError(str(error)) from cause
    if mapped and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        raise error
    raise httpx.ReadError(str(error)) from cause
