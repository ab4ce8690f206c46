"""The clock by which the engine waits. It is passed in, so that tests need not wait.

Times that are recorded, or compared between workers, are the ledger's (`Ledger.now`).
"""

from __future__ import annotations

import asyncio
import threading
import time


class Clock:
    """The real time of this process."""

    def monotonic(self) -> float:
        """Return seconds since an unspecified moment; they never decrease."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this coroutine."""
        await asyncio.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Block this thread until the event is set, or for `seconds`. Returns whether it is set."""
        return event.wait(seconds)


SYSTEM_CLOCK = Clock()
"""The default wherever a clock can be passed in."""
