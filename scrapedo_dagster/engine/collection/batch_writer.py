"""Writes the part files of one batch in a thread while the event loop fetches, then records it in the ledger."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from scrapedo_dagster.engine.collection.memory_budget import Reservation
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.collection.rows import Row, add_digest, rows_of_entries
from scrapedo_dagster.engine.collection.task_fetcher import FetchedTask
from scrapedo_dagster.engine.errors import AlreadyCollectedError
from scrapedo_dagster.engine.inbox.delivered_tasks import DeliveredTasks
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.targets.target import Entry

_MAX_CREDITS = 2**31 - 1  # of the ledger's column; the service may send any number


class _AbortedError(Exception):
    """The event loop has stopped fetching: the parts are not complete."""


class RowQueue:
    """Results on their way from the event loop to the writing thread, which iterates over chunks of them.

    Args:
        loop: frees the memory of written results.
        chunk_bytes: bytes of content that make a chunk.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, chunk_bytes: int) -> None:
        self._loop = loop
        self._chunk_bytes = chunk_bytes
        self._chunks: SimpleQueue[list[FetchedTask] | None] = SimpleQueue()
        self._next: list[FetchedTask] = []
        self._next_bytes = 0
        self._is_complete = False

    def put(self, fetched: FetchedTask) -> None:
        """Append the next result, in the order of the reservations."""
        fetched.reservation.take()
        self._next.append(fetched)
        self._next_bytes += fetched.result.nbytes
        if self._next_bytes >= self._chunk_bytes:
            self._put_chunk()

    def close(self) -> None:
        """End the iteration after the results that were put."""
        self._put_chunk()
        self._is_complete = True
        self._chunks.put(None)

    def abort(self) -> None:
        """Make the iteration raise: no more results come."""
        self._chunks.put(None)

    def __iter__(self) -> Iterator[list[FetchedTask]]:
        while (chunk := self._chunks.get()) is not None:
            yield chunk
            self._loop.call_soon_threadsafe(_release, [each.reservation for each in chunk])
        if not self._is_complete:
            raise _AbortedError

    def _put_chunk(self) -> None:
        for each in self._next:
            each.reservation.start_writing()
        self._chunks.put(self._next)
        self._next, self._next_bytes = [], 0


@dataclass
class BatchWriter:
    """Writes the rows of one batch and records it. `run` is called in a thread.

    Attributes:
        entries: those of each URL that was sent.
        rejected: the rows of entries that were not sent.
        retried: entries without a row, planned again in a new batch. All are added before the queue is closed.
    """

    ledger: Ledger
    tables: PartitionTables
    submission: SubmissionWithTargets
    entries: Mapping[str, Sequence[Entry]]
    rejected: Sequence[Row]
    delivered: DeliveredTasks
    queue: RowQueue
    retried: list[Entry] = field(default_factory=list)

    def run(self) -> None:
        """Write both parts, record the batch as collected, and remove its deliveries.

        Raises:
            AlreadyCollectedError: another worker has recorded the batch. Its parts stay.
            OSError: the rows could not be written.
        """
        ledger, submission = self.ledger, self.submission
        rows = list(self.rejected)
        with self.tables.open_parts(submission) as (tasks_part, contents_part):
            for chunk in self.queue:
                for url, result, _ in chunk:
                    add_digest(result)
                    rows += rows_of_entries(result.task, self.entries[url], submission.generation)
                contents_part.write(contents_table([row for each in chunk if (row := each.result.content) is not None]))
            rows.sort(key=lambda row: int(row["position"]))
            tasks_part.write(pa.Table.from_pylist(rows, schema=TASKS_SCHEMA))
            # A faster worker may have emptied the inbox, or have fetched what has expired since.
            if ledger.submissions.get(submission.id).state != submission.state:
                raise AlreadyCollectedError(
                    f"{submission.ref}: batch {submission.batch} was already collected by another worker."
                )
        if submission.state != State.COLLECTED:
            ledger.submissions.mark_collected(
                submission,
                credits_used=min(sum(row.get("credits_used") or 0 for row in rows), _MAX_CREDITS),
                succeeded=sum(row["status"] == "success" for row in rows),
                again=tuple(self.retried),
            )
        self.delivered.remove()


def contents_table(rows: Sequence[Row]) -> pa.Table:
    """Return rows of `contents` as a table. Contents are copied once, mostly without the interpreter lock."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in CONTENTS_SCHEMA.names}
    contents = columns["content"]
    ends = pa.array([0, *itertools.accumulate(map(len, contents))], pa.int64()).buffers()[1]
    # Python joins large bytes without its lock, which Arrow holds while it makes an array of them.
    data = pa.py_buffer(b"".join(contents))
    columns["content"] = pa.Array.from_buffers(pa.large_binary(), len(contents), [None, ends, data])
    if all(row["text"] is row["content"] for row in rows):
        columns["text"] = columns["content"].cast(pa.large_string())
    return pa.Table.from_pydict(columns, schema=CONTENTS_SCHEMA)


def _release(reservations: Iterable[Reservation]) -> None:
    for each in reservations:
        each.release()
