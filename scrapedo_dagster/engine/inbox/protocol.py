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

KEPT = timedelta(days=7)
"""How long a delivery waits to be collected: longer than the service keeps results, since here they are safe."""

MAX_QUARANTINED = 1000
MAX_QUARANTINED_BYTES = 64 * 2**20
"""What is kept of deliveries for submissions that nobody knows."""


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
class QuarantineUsage:
    """How much is kept for submissions that nobody knows: deliveries, and compressed bytes."""

    deliveries: int
    bytes: int

    @property
    def is_full(self) -> bool:
        """Whether no more is taken."""
        return self.deliveries >= MAX_QUARANTINED or self.bytes >= MAX_QUARANTINED_BYTES


class Inbox(Protocol):
    """Where deliveries wait. Safe to share between threads.

    Every method raises OSError or SQLAlchemyError where the inbox cannot be reached.
    """

    writers: int
    """How many calls of `put` at once are worth while."""

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Store deliveries durably: they survive a power cut. False for those that were there already, and stay."""

    def quarantine(self, delivery: Delivery) -> bool:
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

    def quarantine_usage(self) -> QuarantineUsage:
        """What is kept apart."""

    def check(self) -> None:
        """Raise if nothing could be stored now."""

    def close(self) -> None:
        """Close what was opened."""


def is_storable(identifier: str) -> bool:
    """Whether an id of a job or a task can be kept: printable, and not longer than a file name."""
    return identifier.isprintable() and 0 < len(quote(identifier, safe="")) <= _LONGEST_ID
