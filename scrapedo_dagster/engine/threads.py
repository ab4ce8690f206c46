"""Work that an interrupt must not break off in the wrong place.

Dagster raises its interrupt in the main thread, wherever that happens to be: between a request and its record, or in a
callback of the event loop, which swallows it. Work in a thread of its own is never hit; the main thread waits for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def run_uninterrupted(work: Callable[[], T], *, on_interrupt: Callable[[], object], grace: float) -> T:
    """Run `work` in a thread of its own and return what it returns, or raise what it raises.

    If the wait for it is interrupted, `on_interrupt` is called to tell the work, which then has `grace` seconds to end
    before the interrupt is raised here. Work that takes longer goes on, at most until the process ends.
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


def start_in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a thread of its own beside the event loop. To cancel the future does not end it."""
    outcome: Future[T] = Future()
    _start(work, outcome)
    return asyncio.wrap_future(outcome)


def within(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, and wait for it so long.

    Raises:
        TimeoutError: it takes longer, and goes on.
    """
    outcome: Future[T] = Future()
    _start(work, outcome)
    try:
        return outcome.result(seconds)
    except FutureTimeoutError:  # not the other one before Python 3.11
        raise TimeoutError(f"it takes longer than {seconds:g} s") from None


def _start(work: Callable[[], T], outcome: Future[T]) -> None:
    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)

    outcome.set_running_or_notify_cancel()  # from now on it cannot be canceled
    # A daemon: the process need not wait for a thread that nobody waits for any more.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="scrapedo-work", daemon=True)
    thread.start()


def run_async_uninterrupted(main: Coroutine[Any, Any, T], *, grace: float) -> T:
    """`asyncio.run(main)`; an interrupt cancels `main`, which has `grace` seconds to clean up, and is raised here."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def registered() -> T:
        task = asyncio.ensure_future(main)
        running.append((asyncio.get_running_loop(), task))
        return await task

    def cancel() -> None:
        for loop, task in running:
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)

    return run_uninterrupted(lambda: asyncio.run(registered()), on_interrupt=cancel, grace=grace)
