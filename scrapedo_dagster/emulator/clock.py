"""The emulator's time: the real UTC time plus what tests have advanced it by."""

from __future__ import annotations

import asyncio
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

    async def sleep(self, duration: timedelta) -> None:
        """Sleep until `duration` has passed on this clock."""
        until = self.now() + duration
        while (left := (until - self.now()).total_seconds()) > 0:
            moved = self._moved
            try:
                await asyncio.wait_for(moved.wait(), left)
            except asyncio.TimeoutError:
                return
