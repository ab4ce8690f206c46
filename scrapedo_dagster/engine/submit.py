"""From a list of targets to Scrape.do jobs, each recorded as soon as the service has taken it.

The record is the table `[name, "jobs"]` of the dataset: one row a target, one part a job. Collecting reads it, in this
run or in another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby, zip_longest

import pyarrow as pa

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import MAX_TARGETS, ScrapeOptions, check_target
from scrapedo_dagster.engine.parquet import ParquetTable
from scrapedo_dagster.engine.schemas import JOBS_SCHEMA

_SHOWN = 10  # invalid targets that one message lists


class InvalidTargetsError(ValueError):
    """Some targets cannot be scraped. Nothing was submitted.

    Attributes:
        reasons: for each invalid target its position in the list, from 0, and what is wrong with it.
    """

    def __init__(self, amount: int, reasons: dict[int, str]) -> None:
        listed = "; ".join(f"[{position}] {reason}" for position, reason in list(reasons.items())[:_SHOWN])
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        super().__init__(
            f"{len(reasons)} of {amount} targets are no URLs that Scrape.do can fetch, so nothing was submitted and "
            f"nothing charged. Correct or leave out, by position: {listed}{more}"
        )
        self.reasons = reasons


@dataclass(frozen=True)
class Submission:
    """One job of a generation: up to 1000 targets of a partition, beginning at `first_position` of its list.

    `announced_task_ids` came with the answer to the submission, in no promised order.
    """

    generation: int
    batch: int
    job_id: str
    first_position: int
    targets: tuple[str, ...]
    submitted_at: datetime
    announced_task_ids: tuple[str, ...]


def checked_targets(targets: Iterable[str]) -> tuple[str, ...]:
    """The targets, if every one is an http or https URL.

    Raises:
        TypeError: `targets` is no list of strings.
        InvalidTargetsError: some are no such URL, by position.
    """
    if isinstance(targets, str | bytes):
        raise TypeError(f"targets must be a list of URLs and is one string: {targets!r}. Return [{targets!r}] instead.")
    try:
        listed = tuple(targets)
    except TypeError:
        raise TypeError(f"targets must be a list of URLs and is {type(targets).__name__}: return a list.") from None
    reasons = {}
    for position, target in enumerate(listed):
        try:
            if not isinstance(target, str):
                raise ValueError(f"{target!r} is {type(target).__name__}, not a string")
            check_target(target)
        except ValueError as error:
            reasons[position] = str(error)
    if reasons:
        raise InvalidTargetsError(len(listed), reasons)
    return listed


def submit(
    client: ScrapeDoAsyncAPIClient,
    jobs: ParquetTable,
    partition: str | None,
    targets: Sequence[str],
    options: ScrapeOptions,
    *,
    others: Sequence[ParquetTable],
) -> list[Submission]:
    """Submit a new generation of a partition, in jobs of up to 1000 targets, and record it in `jobs`.

    It is above every generation that has left files in `jobs` or in the `others`, complete or not.

    Raises:
        ScrapeDoError: a job was not taken, or it is uncertain whether it was. Earlier jobs of the generation are
            recorded, and go on.
    """
    used = (part.generation for table in (jobs, *others) for part in table.parts(partition))
    generation = 1 + max(used, default=0)
    submissions = []
    for batch, first in enumerate(range(0, len(targets), MAX_TARGETS)):
        submitted_at = datetime.now(timezone.utc)
        batch_targets = tuple(targets[first : first + MAX_TARGETS])
        created = client.create_job(options.job(batch_targets))
        submission = Submission(
            generation=generation,
            batch=batch,
            job_id=created.job_id,
            first_position=first,
            targets=batch_targets,
            submitted_at=submitted_at,
            announced_task_ids=created.task_ids[: len(batch_targets)],
        )
        with jobs.open_part(partition, generation, batch) as part:
            part.write(_rows(submission))
        submissions.append(submission)
    if not submissions:
        with jobs.open_part(partition, generation, 0):
            pass  # no targets is a result too: an empty table
    jobs.complete_generation(partition, generation, range(max(1, len(submissions))))
    jobs.remove_older_generations(partition, generation)
    return submissions


def recorded_submissions(jobs: ParquetTable, partition: str | None) -> tuple[int, list[Submission]]:
    """The current generation of a partition, and its submissions.

    Raises:
        MissingPartitionsError: nothing was submitted for this partition.
    """
    dataset = jobs.dataset(None if partition is None else [partition])
    rows = dataset.to_table().sort_by([("position", "ascending")]).to_pylist()
    submissions = []
    for batch, group in groupby(rows, key=lambda row: row["batch"]):
        batch_rows = list(group)
        first = batch_rows[0]
        submissions.append(
            Submission(
                generation=first["generation"],
                batch=batch,
                job_id=first["job_id"],
                first_position=first["position"],
                targets=tuple(row["url"] for row in batch_rows),
                submitted_at=first["submitted_at"],
                announced_task_ids=tuple(row["announced_task_id"] for row in batch_rows if row["announced_task_id"]),
            )
        )
    current = jobs.current_generation(partition)
    return (current.generation if current else 0), submissions


def _rows(submission: Submission) -> pa.Table:
    rows = [
        {
            "job_id": submission.job_id,
            "batch": submission.batch,
            "position": submission.first_position + offset,
            "url": url,
            "submitted_at": submission.submitted_at,
            "announced_task_id": task_id,
            "generation": submission.generation,
        }
        for offset, (url, task_id) in enumerate(zip_longest(submission.targets, submission.announced_task_ids))
    ]
    return pa.Table.from_pylist(rows, schema=JOBS_SCHEMA)
