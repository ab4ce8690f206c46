"""The delivered tasks of one job, for the collector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.webhook_address import submission_key


@dataclass(frozen=True)
class DeliveredTasks:
    """The tasks of a submission's job that the inbox has.

    Scrape.do has all of them too, so that an inbox that cannot be read counts as empty.

    Attributes:
        inbox: None if results are not delivered.
        task_ids: the tasks that had arrived when this was made.
    """

    inbox: Inbox | None
    submission: SubmissionWithTargets
    task_ids: frozenset[str] = frozenset()

    @classmethod
    def find(cls, inbox: Inbox | None, submission: SubmissionWithTargets) -> DeliveredTasks:
        """Look up which tasks have arrived."""
        key, task_ids = submission_key(submission), frozenset[str]()
        if inbox is not None:
            with suppress(SQLAlchemyError):
                arrivals = inbox.arrivals([key]).get(key, ())
                task_ids = frozenset(each.task_id for each in arrivals if each.job_id == submission.job_id)
        return cls(inbox, submission, task_ids)

    async def task(
        self, task_id: str, admit: Callable[[int | None], Awaitable[None]] | None = None
    ) -> TaskDetails | None:
        """Return a delivered task, or None if it has to be fetched.

        Args:
            task_id: the task.
            admit: awaited with the size of the task in bytes before it is read.
        """
        if task_id not in self.task_ids or self.inbox is None:
            return None
        name = (submission_key(self.submission), self.submission.job_id or "", task_id)
        try:
            size = await asyncio.to_thread(self.inbox.size, *name)
            if size is None:
                return None
            if admit is not None:
                await admit(size)
            return await asyncio.to_thread(_read, self.inbox, *name)
        except SQLAlchemyError:
            return None

    def remove(self) -> None:
        """Delete the deliveries of the submission. If that fails, they are pruned after `KEEP_FOR`."""
        if self.inbox is not None:
            with suppress(SQLAlchemyError):
                self.inbox.remove(submission_key(self.submission))


def prune_inbox(inbox: Inbox | None) -> None:
    """Delete what nobody has collected in time. It needs no receiver that is running."""
    if inbox is not None:
        with suppress(SQLAlchemyError):
            inbox.prune()


def _read(inbox: Inbox, key: str, job_id: str, task_id: str) -> TaskDetails | None:
    """Return a task, or None if its body is damaged or is that of another task."""
    body = inbox.read(key, job_id, task_id)
    try:
        task = None if body is None else TaskDetails.model_validate_json(body)
    except ValidationError:
        return None
    is_right = task is not None and task.is_terminal and (task.job_id, task.task_id) == (job_id, task_id)
    return task if is_right else None
