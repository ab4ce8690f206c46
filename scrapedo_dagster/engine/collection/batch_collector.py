"""Collects one batch: fetches the tasks of its job, or reads them from the inbox, and writes one row a target.

Each batch has its own part files and is recorded in the ledger once they are written: after a crash, only the batches
that were being collected are collected again. Results stream: the event loop fetches and decodes, a thread writes, and
a `MemoryBudget` bounds the bytes between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.collection.batch_writer import BatchWriter, RowQueue
from scrapedo_dagster.engine.collection.limits import DEFAULT_LIMITS, CollectLimits
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.collection.rows import Row, result_without_task, rows_of_entries
from scrapedo_dagster.engine.collection.task_fetcher import TaskFetcher
from scrapedo_dagster.engine.inbox.delivered_tasks import DeliveredTasks
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import is_near_expiry
from scrapedo_dagster.engine.targets.target import Entry
from scrapedo_dagster.engine.threads import start_in_thread


async def collect_batch(
    ledger: Ledger,
    client: AsyncScrapeDoAsyncAPIClient,
    tables: PartitionTables,
    submission: SubmissionWithTargets,
    *,
    leave_out: frozenset[int] = frozenset(),
    retries: int = 0,
    inbox: Inbox | None = None,
    budget: MemoryBudget | None = None,
    priority: int = 0,
    on_target: Callable[[], None] = lambda: None,
    limits: CollectLimits = DEFAULT_LIMITS,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Write the rows of one finished or expired submission, and record it as collected.

    A target whose result is expired (404), gone (410) or missing from its job becomes a row with the reason. A task
    that cannot be read fails the whole batch, since most such errors pass; near expiry it becomes a row instead, if
    others of its job can be read. While the submission's attempt is below `retries`, failed targets are planned again
    in a new batch and have no row in this one.

    Args:
        ledger: records the submission.
        client: of the submission's account.
        tables: receive the rows.
        submission: in state finished or expired; or collected, if its files are lost.
        leave_out: positions whose rows are in other batches.
        retries: how often a failed target may be submitted again.
        inbox: may hold delivered tasks. These are not fetched, even if the service no longer has them, and are removed
            from the inbox once the submission is recorded.
        budget: shared by the batches that are collected at once; by default of this batch alone.
        priority: of the batches that are collected at once, the lowest gets the next connection.
        on_target: called after each target that becomes a row.
        limits: see `CollectLimits`.
        clock: bounds the wait for tasks that have not ended.

    Raises:
        ScrapeDoError: the service could not be reached, or refused; collect again.
        JobNotEndedError: the job is still running; collect again.
        AlreadyCollectedError: another worker has recorded the submission meanwhile. Its rows stay.
        OSError: the rows could not be written. The previous files stay.
    """
    entries, rejected = _split_entries(submission, leave_out)
    may_retry = submission.attempt < retries and submission.state != State.COLLECTED
    delivered = await asyncio.to_thread(DeliveredTasks.find, inbox, submission)
    near_expiry = is_near_expiry(submission, await asyncio.to_thread(ledger.now))
    fetcher = TaskFetcher(client, submission, delivered, budget or MemoryBudget(), priority, near_expiry, limits, clock)
    queue = RowQueue(asyncio.get_running_loop(), limits.chunk_bytes)
    writer = BatchWriter(ledger, tables, submission, entries, rejected, delivered, queue)
    task_ids = await fetcher.find_task_ids(list(entries))
    writing = start_in_thread(writer.run)
    try:
        async with aclosing(fetcher.fetch(task_ids, stop=writing)) as fetched:
            async for each in fetched:
                if may_retry and each.result.may_be_retried:
                    writer.retried += entries[each.url]
                    each.reservation.release()
                else:
                    queue.put(each)
                    on_target()
        fetcher.raise_if_all_unreadable()
        queue.close()
        await asyncio.shield(writing)
    except BaseException:
        queue.abort()
        await asyncio.gather(writing, return_exceptions=True)
        raise
    finally:
        fetcher.release()


def _split_entries(
    submission: SubmissionWithTargets, leave_out: frozenset[int]
) -> tuple[dict[str, list[Entry]], list[Row]]:
    """Return the entries of each URL that was sent, and the rows of entries that were rejected."""
    entries: dict[str, list[Entry]] = {}
    rejected: list[Row] = []
    for entry in submission.entries:
        if entry.position in leave_out:
            continue
        if entry.rejected is None:
            entries.setdefault(entry.url, []).append(entry)
        else:
            result = result_without_task(None, None, "rejected", entry.rejected)
            rejected += rows_of_entries(result.task, [entry], submission.generation)
    return entries, rejected
