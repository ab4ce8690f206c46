"""The emulator's time: the real UTC time plus what tests have advanced it by."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta, timezone


class Clock:
    """A clock that only moves forward. All methods belong to the emulator's event loop."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """The emulator's time, aware, in UTC."""
        return datetime.now(timezone.utc) + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move time forward; whoever sleeps past the new time wakes at once. ValueError for a step back."""
        if by < timedelta():
            raise ValueError(f"the clock cannot go back by {-by}; advance it by zero or more")
        self._ahead += by
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until this clock shows `moment`."""
        while (left := (moment - self.now()).total_seconds()) > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)
