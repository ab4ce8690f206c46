"""A request's body: bounded each, and bounded together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

_LONGEST_NUMBER = 18  # digits


class TooLargeError(Exception):
    """The body is larger than allowed."""


class Room:
    """So many bytes for the bodies in memory. Who comes first is served first."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, amount: int, *, within: float) -> AsyncIterator[None]:
        """Hold `amount` bytes, at most the whole room. TimeoutError if there is no room within so many seconds."""
        await asyncio.wait_for(self._take(amount), within)
        try:
            yield
        finally:
            self._give_back(amount)

    async def _take(self, amount: int) -> None:
        if not self._waiting and amount <= self._free:
            self._free -= amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came, and nobody waits for it
                self._free += amount
            self._serve()
            raise

    def _give_back(self, amount: int) -> None:
        self._free += amount
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.cancelled():
                if amount > self._free:
                    return
                self._free -= amount
                turn.set_result(None)
            self._waiting.popleft()


def announced(request: Request, limit: int) -> int:
    """The length that the body will have, or `limit` where it is not announced.

    Raises:
        TooLargeError: it will be larger than `limit`.
    """
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return limit
    if len(length) > _LONGEST_NUMBER or int(length) > limit:
        raise TooLargeError
    return int(length)


async def read(request: Request, limit: int) -> bytes:
    """The body.

    Raises:
        TooLargeError: it is larger than `limit`; the rest of it was not read.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise TooLargeError
        body += chunk
    return bytes(body)
