"""What the ledger tells of its rows: immutable records, and how they are made of rows and rows of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.states import OPEN, State
from scrapedo_dagster.engine.targets.target import Batch, Entry

RETENTION = timedelta(days=3)
"""How long Scrape.do keeps results, counted from the job's creation [doc]."""


def account_of(token: str) -> str:
    """What the ledger knows of a token: enough to tell two accounts apart, too little to use."""
    return sha256(f"scrapedo account {token}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Scope:
    """What a generation is of: one partition (None: unpartitioned) of one dataset, scraped by one account."""

    account: str
    dataset: str
    partition: str | None

    def __str__(self) -> str:
        return self.dataset if self.partition is None else f"{self.dataset}, partition {self.partition!r}"


@dataclass(frozen=True)
class GenerationRecord:
    """A generation as the ledger knows it, and what the completion sensor has done about it.

    Attributes:
        scope: what it is of.
        number: counted from 1 in each scope.
        completed_at: since when its files are the data of the partition.
        collect_key: what the run key of the last collecting run begins with, or that nobody asked for this run; until
            Dagster is known to have been told of what it did.
        collect_attempts: how many of these were asked for.
        collect_after: when another one may be.
    """

    scope: Scope
    number: int
    completed_at: datetime | None
    collect_key: str | None
    collect_attempts: int
    collect_after: datetime | None


@dataclass(frozen=True)
class Standing:
    """Where a batch stands, without its targets: enough to watch thousands. `claim` is the attempt that holds it."""

    id: int
    scope: Scope
    generation: int
    batch: int
    attempt: int
    state: State
    target_count: int
    claim: str | None
    job_id: str | None
    run_id: str | None
    reason: str | None
    credits: int | None
    succeeded: int | None
    planned_at: datetime
    claimed_at: datetime | None
    submitted_at: datetime | None
    finished_at: datetime | None
    collected_at: datetime | None
    expires_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether its outcome is not in Parquet yet."""
        return self.state in OPEN


@dataclass(frozen=True)
class Submission(Standing):
    """A batch as the ledger knows it."""

    entries: Batch
    task_ids: tuple[str, ...]
    fingerprint: str

    @property
    def targets(self) -> tuple[str, ...]:
        """What is sent: every valid URL once, in the order of the entries."""
        return tuple(dict.fromkeys(entry.url for entry in self.entries if entry.rejected is None))


def planned_row(
    scope: Scope,
    generation: int,
    batch: int,
    attempt: int,
    entries: Batch,
    fingerprint: str,
    run_id: str | None,
    now: datetime,
) -> dict[str, Any]:
    return {
        "account": scope.account,
        "dataset": scope.dataset,
        "partition": json.dumps(scope.partition),
        "generation": generation,
        "batch": batch,
        "attempt": attempt,
        "state": State.PLANNED.value,
        "entries": [[entry.position, entry.url, entry.key, entry.rejected] for entry in entries],
        "target_count": len({entry.url for entry in entries if entry.rejected is None}),
        "fingerprint": fingerprint,
        "run_id": run_id,
        "planned_at": now,
    }


def submission_of(row: sa.RowMapping) -> Submission:
    values = _values(row)
    values["entries"] = tuple(Entry(*entry) for entry in values["entries"])
    values["task_ids"] = tuple(values["task_ids"] or ())
    return Submission(**values)


def standing_of(row: sa.RowMapping) -> Standing:
    return Standing(**_values(row))


def generation_of(row: sa.RowMapping) -> GenerationRecord:
    values = dict(row)
    return GenerationRecord(scope=_scope(values), number=values.pop("generation"), **values)


def _values(row: sa.RowMapping) -> dict[str, Any]:
    values = dict(row)
    return {"scope": _scope(values), **values, "state": State(values["state"])}


def _scope(values: dict[str, Any]) -> Scope:
    """Takes the scope's columns out of the values."""
    return Scope(values.pop("account"), values.pop("dataset"), json.loads(values.pop("partition")))
