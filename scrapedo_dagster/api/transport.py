"""The one place that builds HTTP clients, so that limits, transport and HTTP library can be exchanged here."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx

DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""Seconds: 10 to connect; 30 to send, to wait for each piece of an answer, and for a free connection."""

DEFAULT_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=32)
"""Every connection is kept alive: httpx keeps 20 of 100 and opens a new one for almost every request above."""


class TokenAuth(httpx.Auth):
    """Puts the token into each request on its way out, so that no client and no client's repr holds it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["X-Token"] = self._token
        yield request


def sync_client(**settings: Any) -> httpx.Client:
    """An httpx client; settings as in `_settings`."""
    return httpx.Client(**_settings(**settings))


def async_client(**settings: Any) -> httpx.AsyncClient:
    """An asyncio httpx client; settings as in `_settings`."""
    return httpx.AsyncClient(**_settings(**settings))


def _settings(
    *,
    base_url: str,
    token: str,
    timeout: httpx.Timeout | float,
    limits: httpx.Limits,
    transport: Any,
    user_agent: str,
) -> dict[str, Any]:
    # Redirects are not followed: the token would go to wherever they point.
    return {
        "base_url": base_url,
        "auth": TokenAuth(token),
        "timeout": timeout,
        "limits": limits,
        "transport": transport,
        "headers": {"Accept": "application/json", "User-Agent": user_agent},
        "follow_redirects": False,
    }
