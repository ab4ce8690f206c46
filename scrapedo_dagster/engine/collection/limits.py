"""The bounds of collecting, in one place so that tests can pass their own."""

from __future__ import annotations

from dataclasses import dataclass, field

from scrapedo_dagster.api.retry import Backoff


@dataclass(frozen=True)
class CollectLimits:
    """Bounds of collecting batches.

    Attributes:
        group_targets: targets of ready batches that fill a group of partitions. Each group is completed before the next
            one is fetched.
        max_batches: batches of a group that are fetched at once.
        waiting_targets: targets of a batch that wait for a connection, so that none is ever idle.
        chunk_bytes: bytes of content that the writing thread receives at once.
        task_end_delay: seconds that a task may end after its job; in which order the service ends them is undocumented.
        task_poll: pauses between two requests for a task that has not ended.
    """

    group_targets: int = 5000
    max_batches: int = 16
    waiting_targets: int = 16
    chunk_bytes: int = 2 * 1024 * 1024
    task_end_delay: float = 30.0
    task_poll: Backoff = field(default=Backoff(initial=0.5, maximum=5.0))


DEFAULT_LIMITS = CollectLimits()
