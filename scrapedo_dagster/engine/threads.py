"""Runs work in a thread of its own, so that an interrupt cannot break it off in the wrong place.

Dagster raises its interrupt in the main thread, wherever that is: between a request and its record, or in a callback of
the event loop, which swallows it. Other threads are never interrupted; the main thread waits for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def run_uninterrupted(work: Callable[[], T], *, on_interrupt: Callable[[], object], grace: float) -> T:
    """Run work in a thread, and return its result or raise its error.

    If an interrupt ends the wait, `on_interrupt` is called to stop the work, which then has `grace` seconds to end
    before the interrupt is raised. Work that takes longer continues, at most until the process ends.
    """
    outcome: Future[T] = Future()
    try:
        _start(work, outcome)
        return outcome.result()
    except BaseException:
        if not outcome.done():
            on_interrupt()
            wait([outcome], timeout=grace)
        raise


def run_async_uninterrupted(main: Coroutine[Any, Any, T], *, grace: float) -> T:
    """Run a coroutine in an event loop of its own in a thread, and return its result or raise its error.

    An interrupt cancels the coroutine, which then has `grace` seconds to clean up before the interrupt is raised.
    """
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def registered() -> T:
        task = asyncio.ensure_future(main)
        running.append((asyncio.get_running_loop(), task))
        return await task

    def cancel() -> None:
        for loop, task in running:
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(task.cancel)

    return run_uninterrupted(lambda: asyncio.run(registered()), on_interrupt=cancel, grace=grace)


def start_in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run work in a thread beside the event loop. Canceling the future does not end it."""
    outcome: Future[T] = Future()
    _start(work, outcome)
    return asyncio.wrap_future(outcome)


def _start(work: Callable[[], T], outcome: Future[T]) -> None:
    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            outcome.set_exception(error)

    outcome.set_running_or_notify_cancel()  # from now on it cannot be canceled
    # A daemon: the process does not wait at its end for abandoned work.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="scrapedo-work", daemon=True)
    thread.start()
