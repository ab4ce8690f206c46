"""Immutable records of the ledger, and their conversion from and to rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.states import OPEN, State
from scrapedo_dagster.engine.ledger.tables import generations, submissions
from scrapedo_dagster.engine.targets.target import Batch, Entry

RETENTION = timedelta(days=3)
"""How long Scrape.do keeps results, from the creation of the job."""


WITHOUT_TARGETS = [column for column in submissions.c if column.name not in {"entries", "task_ids", "fingerprint"}]
"""The columns of a `Submission`."""

OF_GENERATION = [column for column in generations.c if column.name not in {"confirmed_at", "recorded_options"}]
"""The columns of a `GenerationRecord`."""


def account_fingerprint(token: str) -> str:
    """Hash a token: the ledger tells accounts apart by it, and it is no use without the token."""
    return sha256(f"scrapedo account {token}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PartitionRef:
    """One partition of one dataset, scraped by one account. The partition of an unpartitioned dataset is None."""

    account: str
    dataset: str
    partition: str | None

    def __str__(self) -> str:
        return self.dataset if self.partition is None else f"{self.dataset}, partition {self.partition!r}"


@dataclass(frozen=True)
class GenerationRecord:
    """A generation, and the collecting runs that the completion sensor has requested for it.

    Attributes:
        ref: the partition.
        number: counted from 1 in each partition.
        completed_at: since when its files are the data of the partition.
        collect_key: the beginning of the run key of the last collecting run that was requested.
        collect_attempts: how many were requested since the generation was taken over or confirmed.
        collect_after: when the next may be requested.
    """

    ref: PartitionRef
    number: int
    completed_at: datetime | None
    collect_key: str | None
    collect_attempts: int
    collect_after: datetime | None


@dataclass(frozen=True)
class RecordedOptions:
    """How an ad-hoc list is scraped. A later run reads this, since it does not have the config.

    Attributes:
        options: fields of `ScrapeOptions`, without those that may hold secrets.
        withheld: names of the fields that were set and are not recorded.
        max_open_jobs: as in the config.
        retry_failed_targets: as in the config.
    """

    options: dict[str, Any]
    withheld: tuple[str, ...]
    max_open_jobs: int | None
    retry_failed_targets: int


@dataclass(frozen=True)
class Submission:
    """A submission without its targets: small enough to poll thousands.

    `claim` is the id of the attempt that holds it. Times are None until they are reached.
    """

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
        """Whether the outcome is not in Parquet yet."""
        return self.state in OPEN


@dataclass(frozen=True)
class SubmissionWithTargets(Submission):
    """A submission with its targets, the ids of its tasks, and the fingerprint of its options."""

    entries: Batch
    task_ids: tuple[str, ...]
    fingerprint: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The URLs that are sent: every valid one once, in the order of the entries."""
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
    """Remove the columns of the partition from the values, and return them as a reference."""
    return PartitionRef(values.pop("account"), values.pop("dataset"), json.loads(values.pop("partition")))
