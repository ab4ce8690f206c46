"""How many requests an asyncio client has under way at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from types import TracebackType

import httpx

from scrapedo_dagster.api.retry import AttemptOutcome


class AdaptiveConcurrency:
    """`most` requests at once, and fewer while the service is too busy.

    `async with` it to send one. Additive increase, multiplicative decrease, as TCP does it: an answer 429 or a timeout
    halves the number, once for all that were sent before; as many good answers as there are requests at once add one.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.halved = 0
        self._now = float(most)
        self._used = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._numbers = itertools.count()

    @property
    def now(self) -> int:
        """How many it is now: 1 to `most`."""
        return int(self._now)

    async def acquire(self, turn: int = 0) -> None:
        """Be one of them, when there is room. The lowest turn is served first, and in one turn whoever asked first."""
        if self._used < self.now and not self._waiting:
            self._used += 1
            return
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (turn, next(self._numbers), waiting))
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():
                self.release()  # it was served in the moment in which it was canceled
            raise

    def release(self) -> None:
        """Be none of them any more."""
        self._used -= 1
        self._serve()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def heard(self, outcome: AttemptOutcome, *, halved: int) -> None:
        """What came of a request. `halved` is what the attribute was when the request was sent."""
        if _is_too_busy(outcome):
            if halved == self.halved:
                self.halved += 1
                self._now = max(1.0, self._now / 2)
        elif isinstance(outcome, httpx.Response) and self._now < self.most:
            self._now = min(float(self.most), self._now + 1 / self._now)
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._used < self.now:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                self._used += 1
                waiting.set_result(None)


def _is_too_busy(outcome: AttemptOutcome) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code == 429
    return isinstance(outcome, httpx.TimeoutException)
