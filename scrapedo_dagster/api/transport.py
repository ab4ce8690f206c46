"""Send API calls over HTTP, blocking or on asyncio."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from scrapedo_dagster.api.commands import Call
from scrapedo_dagster.api.headers import TOKEN_HEADER, Admit, TokenAuth, body_length, standard_headers
from scrapedo_dagster.api.retry import AttemptOutcome

DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""10 seconds to connect; 30 to send, to wait for each chunk of a response, and for a free connection."""

_KEEP_ALIVE = 5.0  # seconds


def connection_limits(maximum: int) -> httpx.Limits:
    """Allow `maximum` connections and keep all alive: by default httpx keeps only 20 idle connections."""
    return httpx.Limits(max_connections=maximum, max_keepalive_connections=maximum, keepalive_expiry=_KEEP_ALIVE)


class HttpxTransport:
    """Blocking transport over httpx. Safe to share between threads. Follows no redirect, which would get the token."""

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
        """Return the response, or the error that was raised, without the token."""
        try:
            return self._http.request(call.method, call.path, params=call.params, json=call.json)
        except httpx.RequestError as error:
            return _without_token(error)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class AsyncTransport(Protocol):
    """Transport on asyncio."""

    timeout: httpx.Timeout

    async def send(self, call: Call, admit: Admit | None = None) -> AttemptOutcome:
        """Return the response with its body, or the error that was raised, without the token."""

    async def aclose(self) -> None:
        """Close all connections."""


class AsyncHttpxTransport:
    """Asyncio transport over httpx, for a custom `httpx` transport or a SOCKS proxy, which aiohttp does not support."""

    def __init__(
        self, *, base_url: str, token: str, timeout: httpx.Timeout, transport: httpx.AsyncBaseTransport, user_agent: str
    ) -> None:
        self.timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=base_url,
            auth=TokenAuth(token),
            timeout=timeout,
            transport=transport,
            headers=standard_headers(user_agent),
            follow_redirects=False,
        )

    async def send(self, call: Call, admit: Admit | None = None) -> AttemptOutcome:
        """Return the response with its body, or the error that was raised, without the token."""
        request = self._http.build_request(call.method, call.path, params=call.params, json=call.json)
        try:
            response = await self._http.send(request, stream=True)
            try:
                if admit is not None:
                    await admit(body_length(response.headers))
                await response.aread()
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            return _without_token(error)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


def async_transport(
    *,
    base_url: str,
    token: str,
    timeout: httpx.Timeout | float,
    limits: httpx.Limits,
    transport: httpx.AsyncBaseTransport | None,
    user_agent: str,
) -> AsyncTransport:
    """Create the asyncio transport: aiohttp, through the proxy of the environment, if any."""
    timeout = httpx.Timeout(timeout)
    proxy = _proxy_to(base_url)
    if transport is None and proxy is not None and not proxy.startswith("http"):
        transport = httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)
    if transport is not None:
        return AsyncHttpxTransport(
            base_url=base_url, token=token, timeout=timeout, transport=transport, user_agent=user_agent
        )
    # Imported here because aiohttp loads slowly and is not needed to define assets.
    from scrapedo_dagster.api.aiohttp_transport import AiohttpTransport

    return AiohttpTransport(
        base_url=base_url, token=token, timeout=timeout, limits=limits, proxy=proxy, user_agent=user_agent
    )


def _proxy_to(base_url: str) -> str | None:
    address = urlsplit(base_url)
    if address.hostname is None or proxy_bypass(address.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _without_token(error: httpx.RequestError) -> httpx.RequestError:
    """Remove the token from the request of an error: errors are stored, logged and pickled."""
    error.request.headers.pop(TOKEN_HEADER, None)
    return error
