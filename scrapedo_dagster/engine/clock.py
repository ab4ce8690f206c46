"""The clock by which the engine waits: passed in, so that a test can let hours pass in no time.

What is recorded, and compared between workers, has the ledger's time (`Ledger.now`) instead.
"""

from __future__ import annotations

import asyncio
import threading
import time


class Clock:
    """The real time of this process."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment. They never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this coroutine."""
        await asyncio.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Block this thread until `event` is set or the seconds are over. Returns whether it is set."""
        return event.wait(seconds)


SYSTEM_CLOCK = Clock()
"""The default wherever a clock can be passed in."""
