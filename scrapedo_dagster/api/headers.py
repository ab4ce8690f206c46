"""HTTP headers: those of every request, and the length of a response body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import TypeAlias

import httpx

Admit: TypeAlias = Callable[[int | None], Awaitable[None]]
"""Admission control: awaited before a response body is read, with its length in bytes, or None if unknown."""

TOKEN_HEADER = "X-Token"  # noqa: S105 - the header's name


def standard_headers(user_agent: str) -> dict[str, str]:
    """Return the headers of every request, except the token."""
    return {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": user_agent}


class TokenAuth(httpx.Auth):
    """Adds the token to each request as it is sent, so that it is not stored in the headers of the client."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[TOKEN_HEADER] = self._token
        yield request

    def added_to(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers with the token added."""
        return {**headers, TOKEN_HEADER: self._token}


def body_length(headers: Mapping[str, str]) -> int | None:
    """Return the length of a response body in memory, in bytes; None if the headers do not state it."""
    if "content-encoding" in headers:
        return None
    try:
        return int(headers["content-length"])
    except (KeyError, ValueError):
        return None
