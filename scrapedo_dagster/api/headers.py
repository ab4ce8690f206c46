"""The headers of every request: what it accepts, who sends it, and the token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import TypeAlias

import httpx

Admit: TypeAlias = Callable[[int | None], Awaitable[None]]
"""Awaited before the body of an answer is read, with its length in bytes, or None where the answer does not tell."""


_TOKEN = "X-Token"  # noqa: S105 - the header's name


def standard_headers(user_agent: str) -> dict[str, str]:
    """Of every request."""
    return {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": user_agent}


class TokenAuth(httpx.Auth):
    """Puts the token into each request on its way out, so that no client and no client's repr holds it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[_TOKEN] = self._token
        yield request

    def added_to(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers, and the token among them."""
        return {**headers, _TOKEN: self._token}


def length_of(headers: Mapping[str, str]) -> int | None:
    """Of a body, in bytes, as it will be in memory; None where its headers do not tell."""
    if "content-encoding" in headers:
        return None
    try:
        return int(headers["content-length"])
    except (KeyError, ValueError):
        return None
