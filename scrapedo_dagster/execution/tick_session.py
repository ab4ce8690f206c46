"""What one tick of the completion sensor works with, and how much time it has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.clock import Clock
from scrapedo_dagster.resource import ScrapeDoResource

if TYPE_CHECKING:
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import GenerationRecord, Submission

Unconfirmed: TypeAlias = "dict[GenerationRecord, list[Submission]]"
"""Generations that may need work, each with its submissions."""


@dataclass(frozen=True)
class TickLimits:
    """What one tick may use.

    Attributes:
        seconds: for cleanup, which may use half of it, and polling. Dagster ends a tick after 60 seconds, with a
            misleading message.
        request_timeout: seconds to wait for an answer of Scrape.do.
        cancel_seconds: for canceling the jobs of one generation.
        runs: collecting runs that are requested.
    """

    seconds: float = 20.0
    request_timeout: float = 5.0
    cancel_seconds: float = 5.0
    runs: int = 5


@dataclass(frozen=True)
class TickSession:
    """The datasets, account, instance and time of one tick.

    Attributes:
        datasets: by their names in the ledger.
        scrape_do: the account.
        instance: of Dagster.
        log: of the tick.
        limits: of the tick.
        clock: by which the limits are measured.
        started_at: when the tick began, by the clock.
    """

    datasets: Mapping[str, Dataset]
    scrape_do: ScrapeDoResource
    instance: dg.DagsterInstance
    log: logging.Logger
    limits: TickLimits
    clock: Clock
    started_at: float

    @property
    def ledger(self) -> Ledger:
        """The ledger of the account."""
        return self.scrape_do.ledger

    @property
    def deadline(self) -> float:
        """When polling ends, by the clock."""
        return self.started_at + self.limits.seconds

    @property
    def cleanup_deadline(self) -> float:
        """When cleanup ends, by the clock."""
        return self.started_at + self.limits.seconds / 2

    @property
    def is_cleanup_over(self) -> bool:
        """Whether the time for cleanup is used up. The rest is for polling, however much there is to clean up."""
        return self.clock.monotonic() >= self.cleanup_deadline

    def unconfirmed(self) -> Unconfirmed:
        """Read the generations of the datasets that may need work."""
        return self.ledger.generations.unconfirmed(self.scrape_do.account, self.datasets)
