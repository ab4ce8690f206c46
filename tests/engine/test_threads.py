"""Work in a thread of its own: an interrupt ends the wait for it, and never the work in the wrong place."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from scrapedo_dagster.engine.threads import run_async_uninterrupted, run_uninterrupted


class InterruptError(BaseException):
    """An interrupt like Dagster's: not an Exception, and unknown to asyncio."""


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGUSR1 raises an interrupt in the main thread, wherever that is."""

    def interrupt(*_: object) -> None:
        raise InterruptError

    previous = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, previous)


def test_an_interrupt_is_not_lost_in_the_event_loop(interrupts: None) -> None:
    """In the main thread, asyncio would swallow what is raised in a callback."""
    cleaned = []

    async def busy() -> None:
        loop, ends = asyncio.get_running_loop(), time.monotonic() + 5

        def callback() -> None:
            busy_until = time.monotonic() + 0.05
            while time.monotonic() < busy_until:
                pass
            if time.monotonic() < ends:
                loop.call_soon(callback)

        callback()
        try:
            await asyncio.sleep(5)
        finally:
            cleaned.append(1)

    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    began = time.monotonic()
    with pytest.raises(InterruptError):
        run_async_uninterrupted(busy(), grace=3)
    assert time.monotonic() - began < 3
    assert cleaned == [1]


def test_interrupted_work_is_asked_to_stop_and_waited_for(interrupts: None) -> None:
    asked, done = threading.Event(), []

    def work() -> None:
        asked.wait(10)
        done.append(1)

    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(InterruptError):
        run_uninterrupted(work, on_interrupt=asked.set, grace=5)
    assert done == [1]


def test_work_that_does_not_end_does_not_hide_the_interrupt(interrupts: None) -> None:
    release = threading.Event()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    began = time.monotonic()
    with pytest.raises(InterruptError):
        run_uninterrupted(lambda: release.wait(30), on_interrupt=lambda: None, grace=0.2)
    assert time.monotonic() - began < 2
    release.set()


def test_result_and_error_of_the_work_are_passed_on() -> None:
    assert run_uninterrupted(lambda: 3, on_interrupt=lambda: None, grace=1) == 3
    with pytest.raises(ZeroDivisionError):
        run_uninterrupted(lambda: 1 / 0, on_interrupt=lambda: None, grace=1)
