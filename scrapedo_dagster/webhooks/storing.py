"""From deliveries to the inbox: what waits together is stored together, by few threads."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from typing import cast

from scrapedo_dagster.engine.inbox.address import ParsedKey
from scrapedo_dagster.engine.inbox.protocol import Arrival, Delivery, Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import Submission
from scrapedo_dagster.engine.ledger.states import State

_MOST_AT_ONCE = 64
_REMEMBERED = 200  # submissions, each with the ids of up to a thousand tasks


class Fate(str, Enum):
    """What became of a delivery."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    LATE = "late"  # its submission is collected, or failed, and the inbox is not read for it any more
    APART = "kept apart"  # nobody knows its submission, or it is none of its tasks
    DROPPED = "dropped"  # nor is there room for more of them


class Submissions:
    """What the ledger knows of submissions: where there is none, all well-formed keys are known."""

    def __init__(self, ledger: Ledger | None, inbox: Inbox) -> None:
        self._ledger = ledger
        self._inbox = inbox
        self._task_ids = lru_cache(_REMEMBERED)(self._recorded_task_ids)

    def judge(self, deliveries: Sequence[Delivery]) -> list[Fate]:
        """What is to become of each: STORED, LATE or APART."""
        keys = [ParsedKey.of(each.key) for each in deliveries]
        if self._ledger is None:
            return [Fate.APART if key is None else Fate.STORED for key in keys]
        known = self._ledger.submissions.by_ids({key.submission_id for key in keys if key is not None})
        there: dict[str, set[Arrival]] = {}
        return [
            self._judge(each, known[key.submission_id], there)
            if key is not None
            and key.submission_id in known
            and known[key.submission_id].ref.account.startswith(key.account)
            else Fate.APART
            for each, key in zip(deliveries, keys, strict=True)
        ]

    def _judge(self, delivery: Delivery, submission: Submission, there: dict[str, set[Arrival]]) -> Fate:
        if submission.job_id not in (None, delivery.job_id):
            return Fate.APART
        if submission.state == State.COLLECTED:  # one that was canceled may be resumed
            return Fate.LATE
        if submission.job_id is not None and (task_ids := self._task_ids(submission.id, submission.job_id)):
            return Fate.STORED if delivery.task_id in task_ids else Fate.APART
        # Its worker has not recorded the job yet, or the service did not tell the tasks: they are counted.
        if delivery.key not in there:
            there[delivery.key] = set(self._inbox.news([delivery.key]).get(delivery.key, ()))
        arrivals, arrival = there[delivery.key], Arrival(delivery.job_id, delivery.task_id)
        amount = sum(submission.job_id in (None, each.job_id) for each in arrivals)
        if arrival not in arrivals and amount >= submission.target_count:
            return Fate.APART
        arrivals.add(arrival)
        return Fate.STORED

    def _recorded_task_ids(self, submission_id: int, _job_id: str) -> frozenset[str]:
        return frozenset(cast("Ledger", self._ledger).submissions.get(submission_id).task_ids)


class Storing:
    """Stores deliveries. All but threads that it starts is the event loop's."""

    def __init__(self, inbox: Inbox, ledger: Ledger | None) -> None:
        self._inbox = inbox
        self._submissions = Submissions(ledger, inbox)
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
        judged = self._submissions.judge(deliveries)
        both = list(zip(deliveries, judged, strict=True))
        put = iter(self._inbox.put([each for each, fate in both if fate is Fate.STORED]))
        fates: list[Fate] = []
        for each, fate in both:
            if fate is Fate.STORED and not next(put):
                fates.append(Fate.DUPLICATE)
            else:
                fates.append(self._keep_apart(each) if fate is Fate.APART else fate)
        return fates

    def _keep_apart(self, delivery: Delivery) -> Fate:
        with self._one_apart:  # else several would find the same room
            return Fate.APART if self._inbox.quarantine(delivery) else Fate.DROPPED
