"""Send API calls on asyncio over aiohttp, and return httpx responses and errors.

aiohttp is faster: the connection pool of httpx slows down above about eight connections, and its requests, URLs and
streams take as much CPU time as the rest of a call.
"""

from __future__ import annotations

import asyncio
import json

import aiohttp
import httpx
import yarl

from scrapedo_dagster.api.commands import Call
from scrapedo_dagster.api.headers import Admit, TokenAuth, body_length, standard_headers
from scrapedo_dagster.api.retry import AttemptOutcome


class AiohttpTransport:
    """Asyncio transport over aiohttp. Sends each call once, follows no redirects and stores no cookies.

    It belongs to the event loop of its first call.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        timeout: httpx.Timeout,
        limits: httpx.Limits,
        proxy: str | None,
        user_agent: str,
    ) -> None:
        self.timeout = timeout
        self._base_url = base_url
        self._user_agent = user_agent
        self._auth = TokenAuth(token)
        self._limits = limits
        # Skip loading the certificates where TLS is not used: it takes longer than fetching results.
        self._tls = httpx.create_ssl_context() if proxy is not None or not base_url.startswith("http:") else False
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def send(self, call: Call, admit: Admit | None = None) -> AttemptOutcome:
        """Return the response with its body, or the error that was raised, without the token."""
        self._session = self._session or self._connect()
        headers, body = None, None
        if call.json is not None:
            headers, body = {"Content-Type": "application/json"}, json.dumps(call.json, ensure_ascii=False).encode()
        url = yarl.URL(self._base_url + call.path, encoded=True)
        if call.params:
            url = url.with_query(call.params)
        try:
            async with self._session.request(
                call.method, url, headers=headers, data=body, allow_redirects=False
            ) as response:
                if admit is not None:
                    await admit(body_length(response.headers))
                return httpx.Response(response.status, headers=response.raw_headers, content=await response.read())
        except httpx.RequestError as error:  # a body that cannot be decompressed
            return error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            return _as_httpx_error(error)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _connect(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._limits.max_connections or 0,  # 0: no limit
            keepalive_timeout=self._limits.keepalive_expiry,
            ssl=self._tls,
        )
        timeout = aiohttp.ClientTimeout(
            connect=self.timeout.pool, sock_connect=self.timeout.connect, sock_read=self.timeout.read
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._auth.added_to(standard_headers(self._user_agent)),
            timeout=timeout,
            proxy=self._proxy,
            auto_decompress=False,  # httpx does this
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=[_never_repeat],
        )


async def _never_repeat(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Middleware that converts the errors after which aiohttp would repeat a request into one that it raises."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientPayloadError(str(error)) from error


def _as_httpx_error(error: Exception) -> httpx.RequestError:
    """Convert the type and keep only the text: errors of aiohttp contain the request headers, and so the token."""
    kind: type[httpx.RequestError]
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        kind = httpx.ConnectTimeout
    elif isinstance(error, aiohttp.ClientConnectorError):
        kind = httpx.ConnectError
    elif isinstance(error, asyncio.TimeoutError):  # not TimeoutError before Python 3.11
        kind = httpx.ReadTimeout
    else:
        kind = httpx.ReadError  # the request may have been sent
    if isinstance(error, aiohttp.ClientResponseError):  # its text contains the URL of a proxy, with the password
        return kind(f"{error.status}, {error.message}")
    return kind(str(error))
