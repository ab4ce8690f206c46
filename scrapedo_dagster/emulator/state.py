"""State of the emulator: jobs, tasks, credits and counts. Access it only on its event loop."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from scrapedo_dagster.emulator.job_body import JobBody
from scrapedo_dagster.emulator.pricing import price

RETENTION: Final = timedelta(days=3)  # of a job and its results, from its creation, as documented
STATUSES: Final = ("queuing", "queued", "pending", "rotating", "success", "error", "canceled")
TERMINAL: Final = frozenset({"success", "error", "canceled"})


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended. `headers` are (name, value) pairs in order; `credits` were charged."""

    status: str
    status_code: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    content: str | None = None
    base64: bool = False
    error: str | None = None
    billed: bool = False
    credits: int = 0
    remaining_credits: int = 0


@dataclass
class Task:
    """A target of a job, or an entry of the params of a plugin."""

    job: Job
    position: int
    url: str
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    trace_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: str = "queuing"
    started: datetime | None = None
    ended: datetime | None = None
    updated: datetime | None = None
    outcome: TaskOutcome | None = None
    webhook_status: str | None = None
    webhook_time: datetime | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the task has an outcome, which does not change again."""
        return self.outcome is not None

    @property
    def price(self) -> int:
        """Credits of the task if it is billed."""
        return price(self.job.request, self.position)

    def move(self, status: str, now: datetime) -> None:
        """Set a status that is not terminal, unless the task has ended.

        Before Python 3.12 asyncio.wait_for can lose a cancellation that coincides with its result: a canceled task may
        still run for a moment.
        """
        if self.is_terminal:
            return
        self._set_status(status, now)
        if status not in ("queuing", "queued") and self.started is None:
            self.started = now

    def end(self, outcome: TaskOutcome, now: datetime) -> None:
        """Set the outcome and its terminal status."""
        self.outcome = outcome
        self.ended = now
        self._set_status(outcome.status, now)

    def _set_status(self, status: str, now: datetime) -> None:
        self.job.task_statuses[self.status] -= 1
        self.job.task_statuses[status] += 1
        self.status = status
        self.updated = now


@dataclass
class Job:
    """A submitted job. `raw` is the received body; `shown_task_ids` has the order of `TaskIDs` in responses."""

    request: JobBody
    raw: Mapping[str, Any]
    created: datetime
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    tasks: dict[str, Task] = field(default_factory=dict)
    shown_task_ids: list[str] = field(default_factory=list)
    task_statuses: Counter[str] = field(default_factory=Counter)
    canceled: bool = False
    ended: datetime | None = None
    end_status: str | None = None

    @property
    def expires(self) -> datetime:
        """When the job and its results expire."""
        return self.created + RETENTION

    @property
    def is_finished(self) -> bool:
        """Whether all tasks have ended."""
        return self.ended is not None

    @property
    def unfinished(self) -> int:
        """Number of tasks without an outcome."""
        return len(self.tasks) - sum(self.task_statuses[status] for status in TERMINAL)

    @property
    def status(self) -> str:
        """Status of the job: until it has ended, that of its most advanced task."""
        if self.end_status is not None:
            return self.end_status
        for status in ("queuing", "queued"):
            if self.task_statuses[status] == len(self.tasks):
                return status
        if self.task_statuses["rotating"] and not self.task_statuses["pending"]:
            return "rotating"
        return "pending"


@dataclass
class TargetCount:
    """How often a target was submitted, fetched (including repeated attempts) and charged, and the credits charged."""

    submitted: int = 0
    fetched: int = 0
    charged: int = 0
    credits: int = 0


@dataclass(frozen=True)
class JobRecord:
    """An immutable snapshot of a job for tests. `request` is the received body."""

    job_id: str
    created: datetime
    status: str
    canceled: bool
    targets: tuple[str, ...]
    task_ids: tuple[str, ...]
    task_statuses: tuple[str, ...]
    credits: int
    request: Mapping[str, Any]


class Account:
    """Credits. The price of a task is reserved before it is fetched, so that the balance is never negative."""

    def __init__(self, credits: int) -> None:  # noqa: A002 - the word of the service
        self.credits = credits

    def take(self, amount: int) -> bool:
        """Deduct `amount` and return True, or return False if there is not enough."""
        if amount > self.credits:
            return False
        self.credits -= amount
        return True

    def give_back(self, amount: int) -> None:
        """Add a reserved amount back."""
        self.credits += amount


class Store:
    """All jobs since the start, and the counts. Expired jobs are kept without content."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self.targets: dict[str, TargetCount] = {}
        self.requests: Counter[str] = Counter()

    def add(self, job: Job, urls: Iterable[str]) -> None:
        """Add a job with one task for each URL, and count its targets."""
        for position, url in enumerate(urls):
            task = Task(job=job, position=position, url=url, updated=job.created)
            job.tasks[task.task_id] = task
            self.target(url).submitted += 1
        job.task_statuses["queuing"] = len(job.tasks)
        self._drop_expired_content(job.created)
        self._jobs[job.job_id] = job

    def job(self, job_id: str, now: datetime) -> Job | None:
        """Return the job, or None if it is unknown or has expired."""
        job = self._jobs.get(job_id)
        return job if job is not None and now < job.expires else None

    def jobs(self, now: datetime) -> list[Job]:
        """Return the jobs that have not expired, oldest first."""
        return [job for job in self._jobs.values() if now < job.expires]

    def all_jobs(self) -> list[Job]:
        """Return all jobs since the start, oldest first."""
        return list(self._jobs.values())

    def target(self, url: str) -> TargetCount:
        """Return the counts of a target, for reading and counting."""
        return self.targets.setdefault(url, TargetCount())

    def _drop_expired_content(self, now: datetime) -> None:
        # Jobs are in order of creation, so the expired ones come first.
        for job in self._jobs.values():
            if now < job.expires:
                return
            for task in job.tasks.values():
                if task.outcome is not None and task.outcome.content is not None:
                    task.outcome = TaskOutcome(status=task.outcome.status, credits=task.outcome.credits)


def record_of(job: Job) -> JobRecord:
    """Return a snapshot of a job."""
    tasks = tuple(job.tasks.values())
    return JobRecord(
        job_id=job.job_id,
        created=job.created,
        status=job.status,
        canceled=job.canceled,
        targets=tuple(task.url for task in tasks),
        task_ids=tuple(task.task_id for task in tasks),
        task_statuses=tuple(task.status for task in tasks),
        credits=sum(task.outcome.credits for task in tasks if task.outcome),
        request=job.raw,
    )
