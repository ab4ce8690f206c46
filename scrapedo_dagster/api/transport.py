"""The one place that builds HTTP clients, so that limits, transport and HTTP library can be exchanged here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from scrapedo_dagster.api.retry import Outcome
from scrapedo_dagster.api.steps import Call

DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""Seconds: 10 to connect; 30 to send, to wait for each piece of an answer, and for a free connection."""

Admit: TypeAlias = Callable[[int | None], Awaitable[None]]
"""Awaited before the body of an answer is read, with its length in bytes, or None where the answer does not tell."""

_KEEP_ALIVE = 5.0  # seconds
_TOKEN = "X-Token"  # noqa: S105 - the header's name


def connections(amount: int) -> httpx.Limits:
    """So many at most, and every one kept alive: httpx keeps 20, and opens a new one for almost every request above."""
    return httpx.Limits(max_connections=amount, max_keepalive_connections=amount, keepalive_expiry=_KEEP_ALIVE)


class TokenAuth(httpx.Auth):
    """Puts the token into each request on its way out, so that no client and no client's repr holds it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self.sign(request)
        yield request

    def sign(self, request: httpx.Request) -> None:
        """Add the token."""
        request.headers[_TOKEN] = self._token


class Sender:
    """Sends calls of the API, and waits. Safe to share between threads. Redirects are answers: the token stays here."""

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        timeout: httpx.Timeout | float,
        limits: httpx.Limits,
        transport: httpx.BaseTransport | None,
        user_agent: str,
    ) -> None:
        self.timeout = httpx.Timeout(timeout)
        self._http = httpx.Client(
            base_url=base_url,
            auth=TokenAuth(token),
            timeout=timeout,
            limits=limits,
            transport=transport,
            headers={"Accept": "application/json", "User-Agent": user_agent},
            follow_redirects=False,
        )

    def send(self, call: Call) -> Outcome:
        """The answer, or the error that came instead of it, which has no token."""
        try:
            return self._http.request(call.method, call.path, params=call.params, json=call.json)
        except httpx.RequestError as error:
            return _without_token(error)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class AsyncSender:
    """Sends calls of the API over a transport of httpx, on asyncio.

    What `httpx.AsyncClient` does around its transport (cookies, redirects, hooks, merging of URLs and headers) is not
    needed here, and takes longer than sending the request.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        timeout: httpx.Timeout | float,
        limits: httpx.Limits,
        transport: httpx.AsyncBaseTransport | None,
        user_agent: str,
    ) -> None:
        self.timeout = httpx.Timeout(timeout)
        self._base_url = base_url
        self._auth = TokenAuth(token)
        self._headers = httpx.Headers(
            {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": user_agent}
        )
        self._extensions = {"timeout": self.timeout.as_dict()}
        self._transport = transport or async_transport(base_url, limits)

    async def send(self, call: Call, admit: Admit | None = None) -> Outcome:
        """The answer with its body, or the error that came instead of it, which has no token."""
        request = httpx.Request(
            call.method,
            self._base_url + call.path,
            params=call.params,
            json=call.json,
            headers=self._headers,
            extensions=self._extensions,
        )
        self._auth.sign(request)
        try:
            response = await self._transport.handle_async_request(request)
            try:
                response.request = request
                if admit is not None:
                    await admit(_length(response))
                await response.aread()
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            error.request = request
            error.__cause__ = error.__context__ = None  # aiohttp's show the headers of the request; its words are here
            return _without_token(error)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def async_transport(base_url: str, limits: httpx.Limits) -> httpx.AsyncBaseTransport:
    """What carries asyncio requests to the service: aiohttp, through the proxy that the environment names, if any."""
    # aiohttp takes a moment to load, and is not needed to define assets.
    from scrapedo_dagster.api.aiohttp_transport import TruthfulAiohttpTransport

    proxy = _proxy_to(base_url)
    if proxy is not None and not proxy.startswith("http"):
        return httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)  # SOCKS, which aiohttp does not speak
    return TruthfulAiohttpTransport(
        # Without TLS there is nothing to verify, and to read all certificates takes longer than to fetch results.
        verify=proxy is not None or not base_url.startswith("http:"),
        limits=limits,
        proxy=None if proxy is None else httpx.Proxy(proxy),
    )


def _proxy_to(base_url: str) -> str | None:
    address = urlsplit(base_url)
    if address.hostname is None or proxy_bypass(address.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _length(response: httpx.Response) -> int | None:
    """Of the body as it will be in memory."""
    if "content-encoding" in response.headers:
        return None
    try:
        return int(response.headers["content-length"])
    except (KeyError, ValueError):
        return None


def _without_token(error: httpx.RequestError) -> httpx.RequestError:
    """The same error, whose request no longer has the token: errors are kept, logged and pickled."""
    error.request.headers.pop(_TOKEN, None)
    return error
