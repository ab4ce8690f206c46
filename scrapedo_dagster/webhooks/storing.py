"""From deliveries to the inbox: what waits together is stored together, by few threads."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum

from scrapedo_dagster.engine.inbox import Delivery, Inbox
from scrapedo_dagster.engine.inbox_address import ParsedKey
from scrapedo_dagster.engine.ledger import Ledger, LedgerError

_MOST_AT_ONCE = 64
_REMEMBERED = 10_000


class Fate(str, Enum):
    """What became of a delivery."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    APART = "kept apart"  # nobody knows its submission
    DROPPED = "dropped"  # nor is there room for more of them


class Submissions:
    """Which keys there are: all well-formed ones where the ledger is not known."""

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._jobs: dict[str, str] = {}

    def know(self, delivery: Delivery) -> bool:
        """Whether the delivery can be of this submission: it may not be another job's."""
        parsed = ParsedKey.of(delivery.key)
        if parsed is None or self._ledger is None:
            return parsed is not None
        job_id = self._jobs.get(delivery.key)
        if job_id is None:
            try:
                submission = self._ledger.get(parsed.submission_id)
            except LedgerError:
                return False
            if not submission.scope.account.startswith(parsed.account):
                return False
            if submission.job_id is None:
                return True  # its worker has not recorded the job yet
            if len(self._jobs) >= _REMEMBERED:
                self._jobs.clear()
            job_id = self._jobs[delivery.key] = submission.job_id
        return job_id == delivery.job_id


class Storing:
    """Stores deliveries. All but threads that it starts is the event loop's."""

    def __init__(self, inbox: Inbox, ledger: Ledger | None) -> None:
        self._inbox = inbox
        self._submissions = Submissions(ledger)
        self._waiting: deque[tuple[Delivery, asyncio.Future[Fate]]] = deque()
        self._writers: set[asyncio.Task[None]] = set()
        self._writing = 0
        self._threads = ThreadPoolExecutor(inbox.writers, "inbox")
        self._one_apart = threading.Lock()
        self.fates: Counter[Fate] = Counter()
        """How many deliveries since the start."""

    async def store(self, delivery: Delivery) -> Fate:
        """Returns once it is stored durably, or need not be. Raises what the inbox or the ledger raises."""
        stored: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        waiting = (delivery, stored)
        self._waiting.append(waiting)
        if self._writing < self._inbox.writers:
            self._writing += 1
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        try:
            return await stored
        except asyncio.CancelledError:
            with suppress(ValueError):  # it is being stored
                self._waiting.remove(waiting)
            raise

    def close(self) -> None:
        """Take nothing more."""
        self._threads.shutdown(wait=False)

    async def _write(self) -> None:
        try:
            await self._write_all()
        finally:
            self._writing -= 1

    async def _write_all(self) -> None:
        while self._waiting:
            share = min(_MOST_AT_ONCE, -(-len(self._waiting) // self._inbox.writers))
            together = [self._waiting.popleft() for _ in range(share)]
            deliveries = [delivery for delivery, _ in together]
            try:
                fates = await asyncio.get_running_loop().run_in_executor(self._threads, self._store, deliveries)
            except Exception as error:  # noqa: BLE001 - whatever it is, the service is told to deliver again
                for _, stored in together:
                    if not stored.done():
                        stored.set_exception(error)
                continue
            self.fates.update(fates)
            for (_, stored), fate in zip(together, fates, strict=True):
                if not stored.done():
                    stored.set_result(fate)

    def _store(self, deliveries: Sequence[Delivery]) -> list[Fate]:
        known = [self._submissions.know(each) for each in deliveries]
        put = iter(self._inbox.put([each for each, is_known in zip(deliveries, known, strict=True) if is_known]))
        return [
            (Fate.STORED if next(put) else Fate.DUPLICATE) if is_known else self._keep_apart(each)
            for each, is_known in zip(deliveries, known, strict=True)
        ]

    def _keep_apart(self, delivery: Delivery) -> Fate:
        with self._one_apart:  # else several would find the same room
            return Fate.APART if self._inbox.put_apart(delivery) else Fate.DROPPED
