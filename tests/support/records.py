"""Records of the ledger, made without a ledger."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from scrapedo_dagster.engine.ledger.records import RETENTION, PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import UNSENT, State

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)
REF = PartitionRef("account", "shop", "mon")


def submission(
    state: State, targets: int = 1, *, number: int = 1, attempt: int = 0, age: timedelta = timedelta(hours=1)
) -> Submission:
    """A batch that was planned, claimed and submitted so long before `NOW`."""
    is_job = state not in UNSENT
    return Submission(
        id=number,
        ref=REF,
        generation=1,
        batch=number,
        attempt=attempt,
        state=state,
        target_count=targets,
        claim=None,
        job_id=f"job-{number}" if is_job else None,
        run_id="run",
        reason=None,
        credits=None,
        succeeded=None,
        planned_at=NOW - age,
        claimed_at=None if state == State.PLANNED else NOW - age,
        submitted_at=NOW - age if is_job else None,
        finished_at=None,
        collected_at=None,
        expires_at=NOW - age + RETENTION if is_job else None,
    )
