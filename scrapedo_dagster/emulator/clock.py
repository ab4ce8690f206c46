"""EmulatorClock of the emulator: real UTC time plus the time that tests have advanced it by."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta, timezone


class EmulatorClock:
    """A clock that only moves forward. Call its methods only on the event loop of the emulator."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """Return the time, timezone-aware, in UTC."""
        return datetime.now(timezone.utc) + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move the time forward and wake all sleepers that are due. Raises ValueError for a negative step."""
        if by < timedelta():
            raise ValueError(f"the clock cannot move back by {-by}: advance it by zero or more")
        self._ahead += by
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until this clock reaches `moment`."""
        while (left := (moment - self.now()).total_seconds()) > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)
