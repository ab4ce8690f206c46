"""The tasks of one job that have been delivered, for whoever collects it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.engine.inbox.address import submission_key
from scrapedo_dagster.engine.inbox.protocol import KEPT, Inbox
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets

# The service has all of it too: an inbox that cannot be read is as an empty one.
_OUT_OF_REACH = (OSError, SQLAlchemyError)


@dataclass(frozen=True)
class DeliveredTasks:
    """What the inbox has of a submission's job. `task_ids` are those of the tasks that arrived."""

    inbox: Inbox | None
    submission: SubmissionWithTargets
    task_ids: frozenset[str] = frozenset()

    @classmethod
    def find(cls, inbox: Inbox | None, submission: SubmissionWithTargets) -> DeliveredTasks:
        """What is there now."""
        key, task_ids = submission_key(submission), frozenset[str]()
        if inbox is not None:
            with suppress(*_OUT_OF_REACH):
                arrivals = inbox.news([key]).get(key, ())
                task_ids = frozenset(each.task_id for each in arrivals if each.job_id == submission.job_id)
        return cls(inbox, submission, task_ids)

    async def task(
        self, task_id: str, admit: Callable[[int | None], Awaitable[None]] | None = None
    ) -> TaskDetails | None:
        """The task as it was delivered, or None: fetch it.

        `admit` is awaited with its size before it is read.
        """
        if task_id not in self.task_ids or self.inbox is None:
            return None
        location = (submission_key(self.submission), self.submission.job_id or "", task_id)
        try:
            size = await asyncio.to_thread(self.inbox.size, *location)
            if size is None:
                return None
            if admit is not None:
                await admit(size)
            return await asyncio.to_thread(_read, self.inbox, *location)
        except _OUT_OF_REACH:
            return None

    def remove(self) -> None:
        """It is collected. What cannot be removed now is forgotten with its age."""
        if self.inbox is not None:
            with suppress(*_OUT_OF_REACH):
                self.inbox.remove(submission_key(self.submission))


def prune_inbox(inbox: Inbox | None) -> None:
    """What nobody has collected in time is forgotten, also where no receiver is running any more."""
    if inbox is not None:
        with suppress(*_OUT_OF_REACH):
            inbox.prune(KEPT)


def _read(inbox: Inbox, key: str, job_id: str, task_id: str) -> TaskDetails | None:
    """The task, unless it is damaged or another one."""
    body = inbox.read(key, job_id, task_id)
    try:
        task = None if body is None else TaskDetails.model_validate_json(body)
    except ValidationError:
        return None
    is_right = task is not None and task.is_terminal and (task.job_id, task.task_id) == (job_id, task_id)
    return task if is_right else None
