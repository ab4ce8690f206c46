"""The tasks of one job that have been delivered, for whoever collects it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.engine.inbox import KEPT, Inbox
from scrapedo_dagster.engine.inbox_address import key_of
from scrapedo_dagster.engine.ledger import Submission

# The service has all of it too: an inbox that cannot be read is as an empty one.
_OUT_OF_REACH = (OSError, SQLAlchemyError)


@dataclass(frozen=True)
class Delivered:
    """What the inbox has of a submission's job. `task_ids` are those of the tasks that arrived."""

    inbox: Inbox | None
    submission: Submission
    task_ids: frozenset[str] = frozenset()

    @classmethod
    def look(cls, inbox: Inbox | None, submission: Submission) -> Delivered:
        """What is there now."""
        key, task_ids = key_of(submission), frozenset[str]()
        if inbox is not None:
            with suppress(*_OUT_OF_REACH):
                arrivals = inbox.news([key]).get(key, ())
                task_ids = frozenset(each.task_id for each in arrivals if each.job_id == submission.job_id)
        return cls(inbox, submission, task_ids)

    async def task(self, task_id: str) -> TaskDetails | None:
        """The task with all that collecting needs of it, or None: fetch it."""
        if task_id not in self.task_ids or self.inbox is None:
            return None
        try:
            key, job_id = key_of(self.submission), self.submission.job_id or ""
            body = await asyncio.to_thread(self.inbox.read, key, job_id, task_id)
        except _OUT_OF_REACH:
            return None
        task = None if body is None else _whole(body)
        return task if task is not None and (task.job_id, task.task_id) == (job_id, task_id) else None

    def forget(self) -> None:
        """It is collected. What cannot be removed now is forgotten with its age."""
        if self.inbox is not None:
            with suppress(*_OUT_OF_REACH):
                self.inbox.remove(key_of(self.submission))


def forget_the_old(inbox: Inbox | None) -> None:
    """What nobody has collected in time is forgotten, also where no receiver is running any more."""
    if inbox is not None:
        with suppress(*_OUT_OF_REACH):
            inbox.prune(KEPT)


def _whole(body: bytes) -> TaskDetails | None:
    """The task, unless it is damaged or its result was left out."""
    try:
        task = TaskDetails.model_validate_json(body)
        content = task.decoded_content()
    except (ValidationError, ValueError):
        return None
    return task if task.is_terminal and not (task.is_success and content is None) else None
