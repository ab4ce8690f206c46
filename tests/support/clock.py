"""A clock for tests."""

from __future__ import annotations

import threading

from scrapedo_dagster.engine.clock import Clock


class ManualClock(Clock):
    """A clock that only a wait moves forward; the wait itself takes no time.

    Attributes:
        now: what it shows, in seconds. A test may set it.
        waits: the seconds of each wait so far.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.sleep(seconds)
        return event.is_set()
