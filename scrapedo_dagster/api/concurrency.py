"""How many requests an asyncio client has under way at once."""

from __future__ import annotations

from functools import cached_property

import anyio
import httpx

from scrapedo_dagster.api.retry import Outcome


class AdaptiveConcurrency:
    """`most` requests at once, and fewer while the service is too busy.

    Additive increase, multiplicative decrease, as TCP does it: an answer 429 or a timeout halves the number, once for
    all that were sent before; as many good answers as there are requests at once add one.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.halved = 0
        self._now = float(most)

    @property
    def now(self) -> int:
        """How many it is now: 1 to `most`."""
        return int(self._now)

    @cached_property
    def slots(self) -> anyio.CapacityLimiter:
        """`async with` it to be one of them. Whoever asks first is served first."""
        return anyio.CapacityLimiter(self.now)

    def heard(self, outcome: Outcome, *, halved: int) -> None:
        """What came of a request. `halved` is what the attribute was when the request was sent."""
        if _is_too_busy(outcome):
            if halved == self.halved:
                self.halved += 1
                self._now = max(1.0, self._now / 2)
        elif isinstance(outcome, httpx.Response) and self._now < self.most:
            self._now = min(float(self.most), self._now + 1 / self._now)
        else:
            return
        self.slots.total_tokens = self.now


def _is_too_busy(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code == 429
    return isinstance(outcome, httpx.TimeoutException)
