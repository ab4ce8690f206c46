"""Concurrency pool: a fixed number of slots that all jobs share, assigned in order of submission."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from scrapedo_dagster.emulator.state import Job, Task


class ConcurrencyPool:
    """Runs `run(task)` for each added task, at most `size` at once.

    `on_crash` receives tasks whose run raised an error: a defect of the emulator, which must not leave a task open.
    """

    def __init__(
        self,
        size: int,
        run: Callable[[Task], Awaitable[None]],
        on_crash: Callable[[Task, BaseException], None],
    ) -> None:
        self.size = size
        self._run = run
        self._on_crash = on_crash
        self._queue: deque[Task] = deque()
        self._running: dict[asyncio.Task[None], Task] = {}
        self._closed = False

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self.size - len(self._occupants)

    def acquired(self, job: Job) -> int:
        """Return the number of slots that tasks of `job` occupy."""
        return sum(task.job is job for task in self._occupants)

    @property
    def _occupants(self) -> list[Task]:
        # The runner of an ended task still exists for a moment, in which the job may be read.
        return [task for task in self._running.values() if not task.is_terminal]

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue tasks and start as many as there are free slots."""
        self._queue.extend(tasks)
        self._fill()

    async def drop(self, job: Job) -> None:
        """Remove the queued tasks of `job`, cancel its running ones, and wait until their slots are free."""
        self._queue = deque(task for task in self._queue if task.job is not job)
        await self._cancel([runner for runner, task in self._running.items() if task.job is job])

    async def close(self) -> None:
        """Cancel all tasks and start no more."""
        self._closed = True
        self._queue.clear()
        await self._cancel(list(self._running))

    def _fill(self) -> None:
        if self._closed:
            return
        for _ in range(min(self.free, len(self._queue))):
            task = self._queue.popleft()
            runner = asyncio.ensure_future(self._run(task))
            self._running[runner] = task
            runner.add_done_callback(self._done)

    def _done(self, runner: asyncio.Task[None]) -> None:
        task = self._running.pop(runner)
        if not runner.cancelled() and (error := runner.exception()) is not None:
            self._on_crash(task, error)
        self._fill()

    @staticmethod
    async def _cancel(runners: list[asyncio.Task[None]]) -> None:
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
