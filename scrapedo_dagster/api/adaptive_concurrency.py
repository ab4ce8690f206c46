"""Limit how many requests an asyncio client sends at once, depending on how busy the service is."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from types import TracebackType

import httpx

from scrapedo_dagster.api.retry import AttemptOutcome


class AdaptiveConcurrency:
    """A semaphore of up to `maximum` slots, with fewer slots while the service is too busy.

    Acquire a slot with `async with` for each request. The limit follows TCP's additive increase, multiplicative
    decrease: a 429 response or a timeout halves it, once for all requests sent before the last halving; as many
    successful responses as there are slots add one slot.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.halvings = 0
        self._limit = float(maximum)
        self._used = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._arrivals = itertools.count()

    @property
    def limit(self) -> int:
        """Current number of slots, 1 to `maximum`."""
        return int(self._limit)

    async def acquire(self, priority: int = 0) -> None:
        """Wait for a slot. The lowest priority number is served first; equal numbers in order of arrival."""
        if self._used < self.limit and not self._waiting:
            self._used += 1
            return
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), waiting))
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():
                self.release()  # the slot was assigned just before the cancellation
            raise

    def release(self) -> None:
        """Give the slot back."""
        self._used -= 1
        self._assign_slots()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def record_outcome(self, outcome: AttemptOutcome, *, halvings: int) -> None:
        """Adjust the limit to the outcome of a request.

        Args:
            outcome: the response, or the error of the request.
            halvings: value of `self.halvings` when the request was sent.
        """
        if _is_too_busy(outcome):
            if halvings == self.halvings:
                self.halvings += 1
                self._limit = max(1.0, self._limit / 2)
        elif isinstance(outcome, httpx.Response) and self._limit < self.maximum:
            self._limit = min(float(self.maximum), self._limit + 1 / self._limit)
            self._assign_slots()

    def _assign_slots(self) -> None:
        while self._waiting and self._used < self.limit:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                self._used += 1
                waiting.set_result(None)


def _is_too_busy(outcome: AttemptOutcome) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code == 429
    return isinstance(outcome, httpx.TimeoutException)
