"""Collecting one generation, as a run does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from scrapedo_dagster.engine.collection.coordinator import collect_generations
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector


def wait_and_collect(
    collector: PartitionCollector, generation: int, *, job_timeout: timedelta = timedelta(seconds=30), **settings: Any
) -> None:
    """Collect a generation, or raise the error that it failed with."""
    for error in collect_generations({collector: generation}, job_timeout=job_timeout, **settings).values():
        raise error
