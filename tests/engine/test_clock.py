"""The clock that the engine waits by, and the one that tests pass in its place."""

from __future__ import annotations

import asyncio
import threading
import time

from scrapedo_dagster.engine.clock import SYSTEM_CLOCK
from tests.support.clock import ManualClock


def test_system_clock_waits() -> None:
    began = time.monotonic()
    SYSTEM_CLOCK.sleep(0.02)
    asyncio.run(SYSTEM_CLOCK.sleep_async(0.02))
    assert SYSTEM_CLOCK.wait(threading.Event(), 0.02) is False
    assert SYSTEM_CLOCK.monotonic() - began >= 0.06


def test_wait_ends_with_its_event() -> None:
    event = threading.Event()
    event.set()
    began = time.monotonic()
    assert SYSTEM_CLOCK.wait(event, 60.0) is True
    assert ManualClock().wait(event, 60.0) is True
    assert time.monotonic() - began < 30


def test_manual_clock_moves_by_what_is_waited() -> None:
    clock = ManualClock(now=5.0)
    clock.sleep(60.0)
    asyncio.run(clock.sleep_async(3600.0))
    assert clock.wait(threading.Event(), 1.0) is False
    assert (clock.monotonic(), clock.waits) == (3666.0, [60.0, 3600.0, 1.0])
