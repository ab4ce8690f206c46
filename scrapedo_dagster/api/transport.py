"""The one place that builds HTTP clients, so that limits, transport and HTTP library can be exchanged here."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from scrapedo_dagster.api.headers import _TOKEN, Admit, TokenAuth, length_of, standard_headers
from scrapedo_dagster.api.retry import AttemptOutcome
from scrapedo_dagster.api.steps import Call

DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""Seconds: 10 to connect; 30 to send, to wait for each piece of an answer, and for a free connection."""


_KEEP_ALIVE = 5.0  # seconds


def connections(amount: int) -> httpx.Limits:
    """So many at most, and every one kept alive: httpx keeps 20, and opens a new one for almost every request above."""
    return httpx.Limits(max_connections=amount, max_keepalive_connections=amount, keepalive_expiry=_KEEP_ALIVE)


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
            headers=standard_headers(user_agent),
            follow_redirects=False,
        )

    def send(self, call: Call) -> AttemptOutcome:
        """The answer, or the error that came instead of it, which has no token."""
        try:
            return self._http.request(call.method, call.path, params=call.params, json=call.json)
        except httpx.RequestError as error:
            return _without_token(error)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class AsyncSender(Protocol):
    """Sends calls of the API, on asyncio."""

    timeout: httpx.Timeout

    async def send(self, call: Call, admit: Admit | None = None) -> AttemptOutcome:
        """The answer with its body, or the error that came instead of it, which has no token."""

    async def aclose(self) -> None:
        """Close all connections."""


class HttpxSender:
    """Sends calls of the API over a transport of httpx: one that was given, or SOCKS, which aiohttp does not speak."""

    def __init__(
        self, *, base_url: str, token: str, timeout: httpx.Timeout, transport: httpx.AsyncBaseTransport, agent: str
    ) -> None:
        self.timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=base_url,
            auth=TokenAuth(token),
            timeout=timeout,
            transport=transport,
            headers=standard_headers(agent),
            follow_redirects=False,
        )

    async def send(self, call: Call, admit: Admit | None = None) -> AttemptOutcome:
        """The answer with its body, or the error that came instead of it, which has no token."""
        request = self._http.build_request(call.method, call.path, params=call.params, json=call.json)
        try:
            response = await self._http.send(request, stream=True)
            try:
                if admit is not None:
                    await admit(length_of(response.headers))
                await response.aread()
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            return _without_token(error)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


def async_sender(
    *,
    base_url: str,
    token: str,
    timeout: httpx.Timeout | float,
    limits: httpx.Limits,
    transport: httpx.AsyncBaseTransport | None,
    user_agent: str,
) -> AsyncSender:
    """What sends asyncio calls: aiohttp, through the proxy that the environment names, if any."""
    timeout = httpx.Timeout(timeout)
    proxy = _proxy_to(base_url)
    if transport is None and proxy is not None and not proxy.startswith("http"):
        transport = httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)
    if transport is not None:
        return HttpxSender(base_url=base_url, token=token, timeout=timeout, transport=transport, agent=user_agent)
    # aiohttp takes a moment to load, and is not needed to define assets.
    from scrapedo_dagster.api.aiohttp_sender import AiohttpSender

    return AiohttpSender(base_url=base_url, token=token, timeout=timeout, limits=limits, proxy=proxy, agent=user_agent)


def _proxy_to(base_url: str) -> str | None:
    address = urlsplit(base_url)
    if address.hostname is None or proxy_bypass(address.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _without_token(error: httpx.RequestError) -> httpx.RequestError:
    """The same error, whose request no longer has the token: errors are kept, logged and pickled."""
    error.request.headers.pop(_TOKEN, None)
    return error
