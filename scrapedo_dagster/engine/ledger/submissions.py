"""The submissions of the ledger: one row a batch, and its transitions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from scrapedo_dagster.engine.errors import IllegalTransitionError, LedgerError, LostClaimError
from scrapedo_dagster.engine.ledger.conditions import in_generation, is_canceled, is_superseded
from scrapedo_dagster.engine.ledger.database import Database
from scrapedo_dagster.engine.ledger.records import (
    RETENTION,
    WITHOUT_TARGETS,
    AnySubmission,
    PartitionRef,
    Submission,
    SubmissionWithTargets,
    planned_row,
    submission_from_row,
    submission_with_targets_from_row,
)
from scrapedo_dagster.engine.ledger.states import CANCELABLE, TRANSITIONS, State
from scrapedo_dagster.engine.ledger.tables import generations
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.target import Batch, Entry


class SubmissionStore:
    """Reads submissions and changes them by named transitions.

    A transition returns the changed submission. It raises `IllegalTransitionError` where the current state does not
    allow it, and `LostClaimError` where another worker has changed the submission since it was read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, submission_id: int) -> SubmissionWithTargets:
        """Return one submission as it is now.

        Raises:
            LedgerError: there is none with this id.
        """
        found = self._select(table.c.id == submission_id)
        if not found:
            raise LedgerError(f"The ledger has no submission {submission_id}: `scrapedo-dagster jobs list` shows all.")
        return found[0]

    def find(self, *, account: str | None = None, states: Iterable[State] | None = None) -> list[SubmissionWithTargets]:
        """Return the submissions of all partitions, oldest first."""
        conditions: list[sa.ColumnElement[bool]] = []
        if account is not None:
            conditions.append(table.c.account == account)
        if states is not None:
            conditions.append(_in_states(states))
        return self._select(sa.and_(sa.true(), *conditions))

    def with_targets(self, ref: PartitionRef, generation: int) -> list[SubmissionWithTargets]:
        """Return the submissions of a generation, by batch."""
        found = self._select(in_generation(table, ref, generation))
        return sorted(found, key=lambda each: each.batch)

    def of_generation(self, ref: PartitionRef, generation: int) -> list[Submission]:
        """Return the submissions of a generation without their targets, by batch."""
        return self._select_without_targets(in_generation(table, ref, generation))

    def by_ids(self, submission_ids: Iterable[int]) -> dict[int, Submission]:
        """Return the submissions that have these ids, by id, without their targets."""
        return {each.id: each for each in self._select_without_targets(table.c.id.in_(list(submission_ids)))}

    def open_of_canceled(self, account: str, datasets: Iterable[str]) -> list[Submission]:
        """Return what can be canceled of generations of which a submission is canceled."""
        return self._cancelable(account, datasets, is_canceled(table))

    def open_of_superseded(self, account: str, datasets: Iterable[str]) -> list[Submission]:
        """Return what can be canceled of generations that a newer one replaces. Nothing collects them."""
        return self._cancelable(account, datasets, is_superseded(table))

    def positions_planned_again(self, submission: SubmissionWithTargets) -> frozenset[int]:
        """Return the positions that a later attempt of the same generation holds; their rows are written there."""
        later = in_generation(table, submission.ref, submission.generation) & (table.c.attempt > submission.attempt)
        with self._database.engine.connect() as connection:
            found = connection.execute(sa.select(table.c.entries).where(later)).scalars()
            return frozenset(Entry(*entry).position for entries in found for entry in entries)

    def count(self, account: str, states: Iterable[State]) -> int:
        """Count the submissions of an account in these states."""
        query = sa.select(sa.func.count()).where((table.c.account == account) & _in_states(states))
        with self._database.engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def known_job_ids(self, account: str) -> set[str]:
        """Return the ids of all jobs of an account that the ledger has ever recorded."""
        query = sa.select(table.c.job_id).where((table.c.account == account) & table.c.job_id.is_not(None))
        with self._database.engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def claim(
        self, submission: SubmissionWithTargets, *, run_id: str | None, fingerprint: str
    ) -> SubmissionWithTargets | None:
        """Claim a planned submission before it is sent. Returns None if another worker was faster."""
        if submission.state != State.PLANNED:
            raise _illegal(submission, State.SUBMITTING)  # another worker holds its claim
        try:
            return self._move(
                submission,
                State.SUBMITTING,
                claim=uuid.uuid4().hex,
                claimed_at=self._database.now(),
                run_id=run_id,
                fingerprint=fingerprint,
                reason=None,
            )
        except LostClaimError:
            return None

    def renew(self, submission: SubmissionWithTargets) -> SubmissionWithTargets:
        """Replace the claim before another attempt.

        A worker that read the previous claim, and takes its owner for dead, fails its own transition.
        """
        if submission.state != State.SUBMITTING:
            raise _illegal(submission, State.SUBMITTING)
        return self._move(submission, State.SUBMITTING, claim=uuid.uuid4().hex, claimed_at=self._database.now())

    def release(self, submission: AnySubmission, reason: str) -> AnySubmission:
        """Plan a submission again that certainly is no job."""
        return self._move(submission, State.PLANNED, claim=None, reason=reason)

    def mark_uncertain(self, submission: AnySubmission, reason: str) -> AnySubmission:
        """Record that the answer is lost: it may or may not be a job."""
        return self._move(submission, State.UNCERTAIN, reason=reason)

    def mark_submitted(
        self, submission: SubmissionWithTargets, job_id: str, task_ids: Sequence[str]
    ) -> SubmissionWithTargets:
        """Record the job of a submission.

        Raises:
            LostClaimError: another worker has moved it, or the job is another submission's.
        """
        now = self._database.now()
        return self._move(
            submission,
            State.SUBMITTED,
            claim=None,
            job_id=job_id,
            task_ids=list(task_ids),
            submitted_at=now,
            expires_at=(submission.claimed_at or now) + RETENTION,  # a job may be adopted days after it was sent
            reason=None,
        )

    def mark_finished(self, submission: AnySubmission) -> AnySubmission:
        """Record that the job has ended, in whatever status, or that there is nothing to send."""
        if submission.state == State.CANCELED or (submission.state == State.PLANNED and submission.target_count):
            raise _illegal(submission, State.FINISHED)  # its targets would never be sent
        return self._move(submission, State.FINISHED, finished_at=self._database.now())

    def mark_all_finished(self, submissions: Sequence[AnySubmission]) -> list[AnySubmission]:
        """Record that the jobs of submitted submissions have ended. Returns those that no other worker had moved.

        One transaction a chunk: if the process dies in between, some are recorded.
        """
        if illegal := [each for each in submissions if each.state != State.SUBMITTED]:
            raise _illegal(illegal[0], State.FINISHED)
        as_seen = (table.c.state == State.SUBMITTED.value) & table.c.claim.is_(None)
        finished: list[AnySubmission] = []
        for some in self._database.chunks(submissions):
            now = self._database.now()
            values = {"state": State.FINISHED.value, "finished_at": now}
            ours = self._database.swap(table.c.id, [each.id for each in some], as_seen, values)
            finished += [replace(each, state=State.FINISHED, finished_at=now) for each in some if each.id in ours]
        return finished

    def mark_collected(
        self, submission: SubmissionWithTargets, *, credits_used: int, succeeded: int, again: Batch = ()
    ) -> SubmissionWithTargets:
        """Record that the rows are in Parquet, and plan the entries of `again` as a new batch, in one transaction."""
        now = self._database.now()
        with self._database.engine.begin() as connection:
            moved = self._move_in(
                connection, submission, State.COLLECTED, collected_at=now, credits=credits_used, succeeded=succeeded
            )
            self._plan_again(connection, submission, again, now)
        return moved

    def mark_expired(self, submission: AnySubmission, reason: str) -> AnySubmission:
        """Record that the job is gone, and with it the results that were not collected."""
        return self._move(submission, State.EXPIRED, finished_at=self._database.now(), reason=reason)

    def mark_canceled(self, submission: AnySubmission, reason: str) -> AnySubmission:
        """Record that a person canceled a submission."""
        return self._move(submission, State.CANCELED, claim=None, finished_at=self._database.now(), reason=reason)

    def resume(self, submission: SubmissionWithTargets, again: Batch) -> SubmissionWithTargets:
        """Continue a canceled submission: plan the entries of `again` as a new batch, in one transaction."""
        if submission.state != State.CANCELED:
            raise _illegal(submission, State.FINISHED)
        now = self._database.now()
        with self._database.engine.begin() as connection:
            moved = self._move_in(connection, submission, State.FINISHED, reason=None)
            self._plan_again(connection, submission, again, now)
        return moved

    def _plan_again(
        self, connection: sa.Connection, submission: SubmissionWithTargets, again: Batch, now: datetime
    ) -> None:
        if not again:
            return
        # Lock the generation's row: two batches that are collected at once must not plan the same batch number.
        whole = in_generation(generations, submission.ref, submission.generation)
        connection.execute(sa.select(generations.c.generation).where(whole).with_for_update())
        same = in_generation(table, submission.ref, submission.generation)
        last = connection.execute(sa.select(sa.func.max(table.c.batch)).where(same)).scalar_one()
        row = planned_row(
            submission.ref,
            submission.generation,
            last + 1,
            submission.attempt + 1,
            again,
            submission.fingerprint,
            submission.run_id,
            now,
        )
        connection.execute(sa.insert(table), [row])

    def _move(self, submission: AnySubmission, to: State, **values: Any) -> AnySubmission:
        try:
            with self._database.engine.begin() as connection:
                return self._move_in(connection, submission, to, **values)
        except IntegrityError as error:
            raise LostClaimError(
                f"Job {values.get('job_id')} belongs to another submission than {submission.id} ({submission.ref})."
            ) from error

    def _move_in(self, connection: sa.Connection, submission: AnySubmission, to: State, **values: Any) -> AnySubmission:
        if to not in TRANSITIONS[submission.state]:
            raise _illegal(submission, to)
        same_claim = table.c.claim.is_(None) if submission.claim is None else table.c.claim == submission.claim
        swapped = connection.execute(
            sa.update(table)
            .where((table.c.id == submission.id) & (table.c.state == submission.state.value) & same_claim)
            .values(state=to.value, **values)
        )
        if swapped.rowcount != 1:
            raise LostClaimError(
                f"Submission {submission.id} of {submission.ref} is no longer {submission.state.value}: "
                "another worker has moved it."
            )
        if "task_ids" in values:
            values["task_ids"] = tuple(values["task_ids"])
        return replace(submission, state=to, **values)

    def _cancelable(self, account: str, datasets: Iterable[str], why: sa.ColumnElement[bool]) -> list[Submission]:
        of_datasets = (table.c.account == account) & table.c.dataset.in_(list(datasets))
        return self._select_without_targets(of_datasets & _in_states(CANCELABLE) & why)

    def _select_without_targets(self, condition: sa.ColumnElement[bool]) -> list[Submission]:
        query = sa.select(*WITHOUT_TARGETS).where(condition).order_by(table.c.batch)
        with self._database.engine.connect() as connection:
            return [submission_from_row(row) for row in connection.execute(query).mappings()]

    def _select(self, condition: sa.ColumnElement[bool]) -> list[SubmissionWithTargets]:
        order = (table.c.planned_at, table.c.generation, table.c.batch, table.c.id)
        with self._database.engine.connect() as connection:
            rows = connection.execute(sa.select(table).where(condition).order_by(*order)).mappings().all()
        return [submission_with_targets_from_row(row) for row in rows]


def _in_states(states: Iterable[State]) -> sa.ColumnElement[bool]:
    return table.c.state.in_([state.value for state in states])


def _illegal(submission: Submission, to: State) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"Submission {submission.id} of {submission.ref} cannot go from {submission.state.value} to {to.value}."
    )
