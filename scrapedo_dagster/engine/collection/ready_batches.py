"""Collects the ready batches of several partitions of one account at once, over one session."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import ServerError, UnparsableResponseError
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.progress import ProgressReporter
from scrapedo_dagster.engine.ledger.records import Submission
from scrapedo_dagster.engine.threads import run_async_uninterrupted


def collect_ready_batches(
    ready: Mapping[PartitionCollector, Sequence[Submission]], report: ProgressReporter
) -> dict[PartitionCollector, Exception]:
    """Collect ready batches of one account. Returns the first error of each partition that had one.

    After a batch that cannot be read, the other batches of its partition are collected too; after any other error they
    are not. No error stops other partitions.
    """
    if not any(ready.values()):
        return {}
    report.start_fetching()
    grace = next(iter(ready)).submitter.settings.claim_policy.grace
    with _existing_objects_frozen():
        return run_async_uninterrupted(_BatchWorkers(ready, report).run(), grace=grace)


class _BatchWorkers:
    """Workers that take batches in order until none is left."""

    def __init__(self, ready: Mapping[PartitionCollector, Sequence[Submission]], report: ProgressReporter) -> None:
        batches = [(collector, each) for collector, submissions in ready.items() for each in submissions]
        self._connect = batches[0][0].async_client
        self._max_batches = batches[0][0].limits.max_batches
        self._mean_targets = sum(each.target_count for _, each in batches) / len(batches)
        self._batches = enumerate(batches)
        self._report = report
        self._budget = MemoryBudget()
        self._errors: dict[PartitionCollector, Exception] = {}
        self._stopped: set[PartitionCollector] = set()

    async def run(self) -> dict[PartitionCollector, Exception]:
        async with self._connect() as client:
            workers = [asyncio.create_task(self._work(client)) for _ in range(self._amount(client.max_concurrency))]
            try:
                await asyncio.gather(*workers)
            finally:
                for each in workers:
                    each.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return self._errors

    async def _work(self, client: AsyncScrapeDoAsyncAPIClient) -> None:
        for number, (collector, submission) in self._batches:
            if collector in self._stopped:
                continue
            try:
                await collector.collect(submission, client, self._budget, number, self._report)
            except Exception as error:  # noqa: BLE001 - other partitions are collected whatever it is
                self._errors.setdefault(collector, error)
                if not isinstance(error, ServerError | UnparsableResponseError):
                    self._stopped.add(collector)

    def _amount(self, connections: int) -> int:
        """Return how many workers fill the connections, and fetch the next batch while one is completed."""
        return min(self._max_batches, max(2, math.ceil(2 * connections / max(1.0, self._mean_targets))))


@contextmanager
def _existing_objects_frozen() -> Iterator[None]:
    """Keep the garbage collector from traversing the objects that exist now, such as all of Dagster's.

    Rows pile up until their batch is written, which makes full collections frequent: without this, 10,000 small tasks
    take 17 % more CPU time. What the host process has frozen itself stays frozen.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
