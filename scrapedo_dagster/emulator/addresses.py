"""HTTP to the outside, and the refusal to reach inside.

An emulator that others can reach must not become their way into this machine's network. Its requests go
through `PublicOnlyTransport`: names are resolved here, every address is judged, and the connection is made to
the judged address itself, so that a second lookup cannot give another. Redirects pass through it as well.
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
    """A target, a redirect or a webhook leads to an address that a public emulator does not visit."""


def outgoing(*, public_only: bool) -> httpx.AsyncBaseTransport:
    """The transport of everything that the emulator fetches. Proxies of the environment are not used."""
    if public_only:
        return PublicOnlyTransport()
    return httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)


class PublicOnlyTransport(httpx.AsyncBaseTransport):
    """Connects to addresses of the public internet only."""

    def __init__(self) -> None:
        # Connections are found again by address; two names may share one, and must not share a TLS session.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to a judged address of its host. PrivateAddressError if any of them is not public."""
        addresses = await _resolve(request)
        for address in addresses:
            if not is_public(address):
                raise PrivateAddressError(
                    f"{request.url.host} is {address}, which is not on the public internet; an emulator that "
                    "listens beyond loopback does not fetch such addresses",
                    request=request,
                )
        *others, last = addresses
        for address in others:
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._inner.handle_async_request(_sent_to(address, request))
        return await self._inner.handle_async_request(_sent_to(last, request))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, also when it is wrapped into an IPv6 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


async def _resolve(request: httpx.Request) -> list[str]:
    host = request.url.host
    port = request.url.port or (443 if request.url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} cannot be resolved: {error}", request=request) from error
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _sent_to(address: str, request: httpx.Request) -> httpx.Request:
    # The Host header is already in the request; the certificate is still checked against the name.
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
