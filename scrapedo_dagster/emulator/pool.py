"""The concurrency pool: a fixed number of slots, shared by all jobs, filled in the order of submission."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from scrapedo_dagster.emulator.state import Job, Task


class Pool:
    """Runs `run(task)` for each added task, never more than `size` at once.

    `crashed` is told of tasks whose run raised: a defect of the emulator, which must not leave a task open.
    """

    def __init__(
        self,
        size: int,
        run: Callable[[Task], Awaitable[None]],
        crashed: Callable[[Task, BaseException], None],
    ) -> None:
        self.size = size
        self._run = run
        self._crashed = crashed
        self._waiting: deque[Task] = deque()
        self._running: dict[asyncio.Task[None], Task] = {}
        self._closed = False

    @property
    def free(self) -> int:
        """Slots that no task holds."""
        return self.size - len(self._holding)

    def acquired(self, job: Job) -> int:
        """Slots that tasks of `job` hold."""
        return sum(task.job is job for task in self._holding)

    @property
    def _holding(self) -> list[Task]:
        # The runner of a task that has ended lives on for a moment, in which the job may be read.
        return [task for task in self._running.values() if not task.is_terminal]

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue tasks, and start as many as there are free slots."""
        self._waiting.extend(tasks)
        self._fill()

    async def drop(self, job: Job) -> None:
        """Forget the waiting tasks of `job`, interrupt its running ones, and wait until their slots are free."""
        self._waiting = deque(task for task in self._waiting if task.job is not job)
        await self._interrupt([runner for runner, task in self._running.items() if task.job is job])

    async def close(self) -> None:
        """Interrupt everything; nothing is started any more."""
        self._closed = True
        self._waiting.clear()
        await self._interrupt(list(self._running))

    def _fill(self) -> None:
        if self._closed:
            return
        for _ in range(min(self.free, len(self._waiting))):
            task = self._waiting.popleft()
            runner = asyncio.ensure_future(self._run(task))
            self._running[runner] = task
            runner.add_done_callback(self._done)

    def _done(self, runner: asyncio.Task[None]) -> None:
        task = self._running.pop(runner)
        if not runner.cancelled() and (error := runner.exception()) is not None:
            self._crashed(task, error)
        self._fill()

    @staticmethod
    async def _interrupt(runners: list[asyncio.Task[None]]) -> None:
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
