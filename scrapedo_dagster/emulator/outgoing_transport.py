"""Transport of the requests that the emulator sends to targets and webhooks.

An emulator that other machines can reach must not give them access to this network: its requests go through
`PublicOnlyTransport`. It resolves the name, checks every address, and connects to a checked address, so that a second
lookup cannot return another one. Redirects pass through it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import Final

import httpx

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=5)


class PrivateAddressError(httpx.ConnectError):
    """A target, a redirect or a webhook has a private address, which a public emulator does not fetch."""


def outgoing_transport(*, public_only: bool) -> httpx.AsyncBaseTransport:
    """Return the transport of all outgoing requests. It ignores proxies of the environment."""
    if public_only:
        return PublicOnlyTransport()
    return httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)


class PublicOnlyTransport(httpx.AsyncBaseTransport):
    """Connects only to addresses of the public internet."""

    def __init__(self) -> None:
        # Connections are reused by address. Two names may share an address, but must not share a TLS session.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to a public address of its host. Raises PrivateAddressError if any address is private."""
        addresses = await _resolve(request)
        for address in addresses:
            if not is_public(address):
                raise PrivateAddressError(
                    f"{request.url.host} resolves to {address}, which is not a public address; an emulator that "
                    "listens beyond loopback does not fetch such addresses",
                    request=request,
                )
        *others, last = addresses
        for address in others:
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._inner.handle_async_request(_with_address(address, request))
        return await self._inner.handle_async_request(_with_address(last, request))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def is_public(address: str) -> bool:
    """Return whether an IP address is public; also checks an IPv4 address embedded in an IPv6 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is None and ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


async def _resolve(request: httpx.Request) -> list[str]:
    host = request.url.host
    port = request.url.port or (443 if request.url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} cannot be resolved: {error}", request=request) from error
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _with_address(address: str, request: httpx.Request) -> httpx.Request:
    # The request already has its Host header; the certificate is still verified against the name.
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
