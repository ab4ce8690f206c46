"""What the ledger tells of its rows: immutable records, and how they are made of rows and rows of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.states import OPEN, State
from scrapedo_dagster.engine.ledger.tables import submissions
from scrapedo_dagster.engine.targets.target import Batch, Entry

RETENTION = timedelta(days=3)
"""How long Scrape.do keeps results, counted from the job's creation [doc]."""


WITHOUT_TARGETS = [column for column in submissions.c if column.name not in {"entries", "task_ids", "fingerprint"}]
"""The columns of a `Submission`."""


def account_fingerprint(token: str) -> str:
    """What the ledger knows of a token: enough to tell two accounts apart, too little to use."""
    return sha256(f"scrapedo account {token}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PartitionRef:
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
        ref: what it is of.
        number: counted from 1 in each ref.
        completed_at: since when its files are the data of the partition.
        collect_key: what the run key of the last collecting run begins with, or that nobody asked for this run; until
            Dagster is known to have been told of what it did.
        collect_attempts: how many of these were asked for.
        collect_after: when another one may be.
    """

    ref: PartitionRef
    number: int
    completed_at: datetime | None
    collect_key: str | None
    collect_attempts: int
    collect_after: datetime | None


@dataclass(frozen=True)
class Submission:
    """Where a batch stands, without its targets: enough to watch thousands. `claim` is the attempt that holds it."""

    id: int
    ref: PartitionRef
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
class SubmissionWithTargets(Submission):
    """A batch as the ledger knows it."""

    entries: Batch
    task_ids: tuple[str, ...]
    fingerprint: str

    @property
    def targets(self) -> tuple[str, ...]:
        """What is sent: every valid URL once, in the order of the entries."""
        return tuple(dict.fromkeys(entry.url for entry in self.entries if entry.rejected is None))


AnySubmission = TypeVar("AnySubmission", bound=Submission)


def planned_row(
    ref: PartitionRef,
    generation: int,
    batch: int,
    attempt: int,
    entries: Batch,
    fingerprint: str,
    run_id: str | None,
    now: datetime,
) -> dict[str, Any]:
    return {
        "account": ref.account,
        "dataset": ref.dataset,
        "partition": json.dumps(ref.partition),
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


def submission_with_targets_from_row(row: sa.RowMapping) -> SubmissionWithTargets:
    values = _values(row)
    values["entries"] = tuple(Entry(*entry) for entry in values["entries"])
    values["task_ids"] = tuple(values["task_ids"] or ())
    return SubmissionWithTargets(**values)


def submission_from_row(row: sa.RowMapping) -> Submission:
    return Submission(**_values(row))


def generation_from_row(row: sa.RowMapping) -> GenerationRecord:
    values = dict(row)
    return GenerationRecord(ref=_ref(values), number=values.pop("generation"), **values)


def _values(row: sa.RowMapping) -> dict[str, Any]:
    values = dict(row)
    return {"ref": _ref(values), **values, "state": State(values["state"])}


def _ref(values: dict[str, Any]) -> PartitionRef:
    """Takes the ref's columns out of the values."""
    return PartitionRef(values.pop("account"), values.pop("dataset"), json.loads(values.pop("partition")))
