"""Decides what becomes of deliveries and stores them: those that wait together, in one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache, partial

from scrapedo_dagster.engine.inbox.deliveries import Arrival, Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.threads import start_in_thread
from scrapedo_dagster.engine.webhook_address import ParsedKey

_MAX_TOGETHER = 64
_CACHED_SUBMISSIONS = 200  # each with the ids of up to a thousand tasks


class DeliveryResult(str, Enum):
    """What has become of a delivery."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    LATE = "late"  # its submission is collected, and nobody reads the inbox for it any more
    QUARANTINED = "quarantined"  # the ledger does not have its submission, or the submission not this task
    DROPPED = "dropped"  # it would be quarantined, but the quarantine is full


class DeliveryWriter:
    """Stores deliveries. Its methods are called on the event loop; the database is used in threads.

    Attributes:
        dropped: how many deliveries were dropped since the start.
    """

    def __init__(self, inbox: Inbox, ledger: Ledger) -> None:
        self.dropped = 0
        self._inbox = inbox
        self._ledger = ledger
        self._task_ids = lru_cache(_CACHED_SUBMISSIONS)(self._read_task_ids)
        self._waiting: deque[tuple[Delivery, asyncio.Future[DeliveryResult]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def store(self, delivery: Delivery) -> DeliveryResult:
        """Return once the delivery is stored durably, or need not be. Raises the errors of the inbox and the ledger."""
        result: asyncio.Future[DeliveryResult] = asyncio.get_running_loop().create_future()
        waiting = delivery, result
        self._waiting.append(waiting)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        try:
            return await result
        except asyncio.CancelledError:
            # While the database hangs, deliveries that were answered 503 must not pile up in memory.
            with suppress(ValueError):  # it is being written
                self._waiting.remove(waiting)
            raise

    async def _write_waiting(self) -> None:
        while self._waiting:
            together = [self._waiting.popleft() for _ in range(min(_MAX_TOGETHER, len(self._waiting)))]
            # A request that has timed out has canceled its future.
            open_ = [(delivery, future) for delivery, future in together if not future.done()]
            deliveries = [delivery for delivery, _ in open_]
            try:
                results = await start_in_thread(partial(self._store, deliveries))
            except Exception as error:  # noqa: BLE001 - each request answers 503, and Scrape.do repeats it
                for _, future in open_:
                    if not future.done():
                        future.set_exception(error)
                continue
            self.dropped += results.count(DeliveryResult.DROPPED)
            for (_, future), result in zip(open_, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _store(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
        results = self._classify(deliveries)
        for decision, store, otherwise in (
            (DeliveryResult.STORED, self._inbox.put, DeliveryResult.DUPLICATE),
            (DeliveryResult.QUARANTINED, self._inbox.quarantine, DeliveryResult.DROPPED),
        ):
            chosen = [number for number, result in enumerate(results) if result is decision]
            for number, is_stored in zip(chosen, store([deliveries[number] for number in chosen]), strict=True):
                results[number] = decision if is_stored else otherwise
        return results

    def _classify(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
        """Return STORED, LATE or QUARANTINED for each."""
        keys = [ParsedKey.parse(each.key) for each in deliveries]
        known = self._ledger.submissions.by_ids({key.submission_id for key in keys if key is not None})
        arrivals: dict[str, set[Arrival]] = {}
        results = []
        for delivery, key in zip(deliveries, keys, strict=True):
            submission = None if key is None else known.get(key.submission_id)
            if key is None or submission is None or not submission.ref.account.startswith(key.account):
                results.append(DeliveryResult.QUARANTINED)
            else:
                results.append(self._classify_known(delivery, submission, arrivals))
        return results

    def _classify_known(
        self, delivery: Delivery, submission: Submission, arrivals: dict[str, set[Arrival]]
    ) -> DeliveryResult:
        if submission.job_id not in (None, delivery.job_id):
            return DeliveryResult.QUARANTINED
        if submission.state == State.COLLECTED:  # not what was canceled: that may be resumed
            return DeliveryResult.LATE
        if submission.job_id is not None and (task_ids := self._task_ids(submission.id, submission.job_id)):
            return DeliveryResult.STORED if delivery.task_id in task_ids else DeliveryResult.QUARANTINED
        # The job or its tasks are not recorded yet: take no more tasks than the submission has targets.
        if delivery.key not in arrivals:
            arrivals[delivery.key] = set(self._inbox.arrivals([delivery.key]).get(delivery.key, ()))
        arrived, arrival = arrivals[delivery.key], Arrival(delivery.job_id, delivery.task_id)
        amount = sum(submission.job_id in (None, each.job_id) for each in arrived)
        if arrival not in arrived and amount >= submission.target_count:
            return DeliveryResult.QUARANTINED
        arrived.add(arrival)
        return DeliveryResult.STORED

    def _read_task_ids(self, submission_id: int, _job_id: str) -> frozenset[str]:
        return frozenset(self._ledger.submissions.get(submission_id).task_ids)
