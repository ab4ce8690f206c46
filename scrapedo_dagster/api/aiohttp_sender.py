"""Sends calls of the API over aiohttp, and answers in the terms of httpx, which all decisions are made in.

httpx's own connection pool becomes slower with every connection above about eight, and its requests, URLs and streams
cost as much as all else of a call; aiohttp's do not. This is imported when a client is made: aiohttp takes a moment to
load.
"""

from __future__ import annotations

import asyncio
import json

import aiohttp
import httpx
import yarl

from scrapedo_dagster.api.headers import Admit, TokenAuth, length_of, standard_headers
from scrapedo_dagster.api.retry import AttemptOutcome
from scrapedo_dagster.api.steps import Call


class AiohttpSender:
    """Sends calls of the API, on asyncio, each once. Redirects are answers, and no cookies are kept.

    Connections are made in the event loop that sends first.
    """

    def __init__(
        self, *, base_url: str, token: str, timeout: httpx.Timeout, limits: httpx.Limits, proxy: str | None, agent: str
    ) -> None:
        self.timeout = timeout
        self._base_url = base_url
        self._agent = agent
        self._auth = TokenAuth(token)
        self._limits = limits
        # Without TLS there is nothing to verify, and to read all certificates takes longer than to fetch results.
        self._tls = httpx.create_ssl_context() if proxy is not None or not base_url.startswith("http:") else False
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def send(self, call: Call, admit: Admit | None = None) -> AttemptOutcome:
        """The answer with its body, or the error that came instead of it."""
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
            ) as answer:
                if admit is not None:
                    await admit(length_of(answer.headers))
                return httpx.Response(answer.status, headers=answer.raw_headers, content=await answer.read())
        except httpx.RequestError as error:  # a body that cannot be decompressed
            return error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            return _in_terms_of_httpx(error)

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
            headers=self._auth.added_to(standard_headers(self._agent)),
            timeout=timeout,
            proxy=self._proxy,
            auto_decompress=False,  # httpx does it
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=[_once],
        )


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware of aiohttp, which turns what it would repeat by itself into what it does not."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientPayloadError(str(error)) from error


def _in_terms_of_httpx(error: Exception) -> httpx.RequestError:
    """Only these words are kept of it: aiohttp's errors show the headers of the request, the token among them."""
    kind: type[httpx.RequestError]
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        kind = httpx.ConnectTimeout
    elif isinstance(error, aiohttp.ClientConnectorError):
        kind = httpx.ConnectError
    elif isinstance(error, asyncio.TimeoutError):  # before Python 3.11 another than TimeoutError
        kind = httpx.ReadTimeout
    else:
        kind = httpx.ReadError  # it may have been sent
    if isinstance(error, aiohttp.ClientResponseError):  # it tells the URL of a proxy, with the password
        return kind(f"{error.status}, {error.message}")
    return kind(str(error))
