"""The body of a request: limited one by one, and all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

_MAX_DIGITS = 18  # of a content length


class BodyTooLargeError(Exception):
    """The body is larger than allowed."""


class BodyBudget:
    """Limits the bytes of all bodies in memory. Requests get their share in the order in which they come.

    Args:
        size: bytes of all bodies.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()  # it is fair

    @asynccontextmanager
    async def reserved(self, amount: int) -> AsyncIterator[None]:
        """Wait until `amount` bytes are free and hold them. `amount` is not more than the size of the budget."""
        async with self._turn:
            while amount > self._free:
                self._freed.clear()
                await self._freed.wait()
            self._free -= amount
        try:
            yield
        finally:
            self._free += amount
            self._freed.set()


def content_length(request: Request, limit: int) -> int:
    """Return the length of the body in bytes, or `limit` if the request does not announce it.

    Raises:
        BodyTooLargeError: it is more than `limit`.
    """
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return limit
    if len(length) > _MAX_DIGITS or int(length) > limit:
        raise BodyTooLargeError
    return int(length)


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body.

    Raises:
        BodyTooLargeError: it has more than `limit` bytes. The rest is not read.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise BodyTooLargeError
        body += chunk
    return bytes(body)
