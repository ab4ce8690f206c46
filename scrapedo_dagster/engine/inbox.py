"""The inbox: what Scrape.do has delivered by webhook and nobody has collected yet.

Deliveries are kept by submission, job and task, each once. Whoever reads asks for a job's tasks by the ids that the
ledger knows: what came under a submission's key for any other job (a replay, an id that a lost ledger had used before)
is never looked at. Polling stays the source of truth: an inbox that is empty, or gone, only costs the fetching.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, Protocol
from urllib.parse import quote

import pyarrow as pa

from scrapedo_dagster.engine.ledger import Ledger

KEPT = timedelta(days=7)
"""How long a delivery waits to be collected: longer than the service keeps results, since here they are safe."""

MOST_APART = 1000
MOST_BYTES_APART = 64 * 2**20
"""What is kept of deliveries for submissions that nobody knows."""

TRIAL = 64 * 1024
"""Bytes that are written to see whether there is room on the disk: a file of a few has room on a full one."""

HEAD = 18
"""Bytes of what was packed that tell how large it was."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_LONGEST_ID = 200  # bytes of a file name, which needs a few more around it


class Arrival(NamedTuple):
    """A delivery that is there."""

    job_id: str
    task_id: str


@dataclass(frozen=True)
class Delivery:
    """One finished task as the service has posted it. `body` is the JSON, `key` that of the URL."""

    key: str
    job_id: str
    task_id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Apart:
    """How much is kept for submissions that nobody knows: deliveries, and compressed bytes."""

    deliveries: int
    bytes: int

    @property
    def is_full(self) -> bool:
        """Whether no more is taken."""
        return self.deliveries >= MOST_APART or self.bytes >= MOST_BYTES_APART


class Inbox(Protocol):
    """Where deliveries wait. Safe to share between threads.

    Every method raises OSError or SQLAlchemyError where the inbox cannot be reached.
    """

    writers: int
    """How many calls of `put` at once are worth while."""

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Store deliveries durably: they survive a power cut. False for those that were there already, and stay."""

    def put_apart(self, delivery: Delivery) -> bool:
        """Store one for a submission that nobody knows. False where too many are kept already."""

    def news(self, keys: Collection[str]) -> dict[str, frozenset[Arrival]]:
        """What has arrived for these submissions, without reading it; nothing for those without."""

    def size(self, key: str, job_id: str, task_id: str) -> int | None:
        """How many bytes `read` will return, without reading them, or None where it will return None."""

    def read(self, key: str, job_id: str, task_id: str) -> bytes | None:
        """The JSON of a task, or None where it is not there or its file is damaged."""

    def remove(self, key: str) -> None:
        """Forget a submission that is collected."""

    def prune(self, older_than: timedelta) -> int:
        """Forget what has waited for so long, and what was kept apart for so long. How many deliveries that was."""

    def apart(self) -> Apart:
        """What is kept apart."""

    def check(self) -> None:
        """Raise if nothing could be stored now."""

    def close(self) -> None:
        """Close what was opened."""


def open_inbox(uri: str | None, ledger: Ledger | None, *, for_reading: bool = False) -> Inbox:
    """The inbox at a path or a URI of any filesystem that pyarrow knows, or in the database of the ledger.

    Nothing is reached before it is used. Where it is `for_reading`, an inbox that does not answer in a few seconds
    counts as one that cannot be reached.

    Raises:
        ValueError: neither is given, or pyarrow knows no filesystem for the URI.
    """
    if uri is not None:
        from scrapedo_dagster.engine.inbox_files import FileInbox, HastyFileInbox

        return HastyFileInbox(uri) if for_reading else FileInbox(uri)
    if ledger is None:
        raise ValueError("An inbox needs the URI of a directory, or a ledger in whose database it is.")
    from scrapedo_dagster.engine.inbox_table import TableInbox

    return TableInbox(ledger)


def is_storable(identifier: str) -> bool:
    """Whether an id of a job or a task can be kept: printable, and not longer than a file name."""
    return identifier.isprintable() and 0 < len(quote(identifier, safe="")) <= _LONGEST_ID


def pack(body: bytes) -> bytes:
    """Compressed."""
    packed: bytes = pa.Codec("zstd", compression_level=1).compress(body, asbytes=True)
    return packed


def unpacked_size(start: bytes) -> int | None:
    """How large the first `HEAD` bytes of what was packed say that it was, or None where these are damaged.

    See "Zstandard frame header" in RFC 8878.
    """
    if len(start) < len(_MAGIC) + 1 or not start.startswith(_MAGIC):
        return None
    descriptor = start[len(_MAGIC)]
    is_one_segment = bool(descriptor & 0b100000)
    width = (int(is_one_segment), 2, 4, 8)[descriptor >> 6]
    # Between them are the size of the window, where it is not that of the whole, and the id of a dictionary.
    at = len(_MAGIC) + 1 + (not is_one_segment) + (0, 1, 2, 4)[descriptor & 0b11]
    if not width or len(start) < at + width:
        return None
    return int.from_bytes(start[at : at + width], "little") + (256 if width == 2 else 0)


def unpack(packed: bytes) -> bytes | None:
    """What was packed, or None where it is damaged."""
    try:
        with pa.input_stream(pa.py_buffer(packed), compression="zstd") as stream:
            body: bytes = stream.read()
    except (OSError, pa.ArrowException):
        return None
    return body
