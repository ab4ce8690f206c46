"""Whether whoever submits a partition goes on with its newest generation, or begins a new one. Decides only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from scrapedo_dagster.engine.errors import GenerationConflictError
from scrapedo_dagster.engine.ledger.records import RETENTION, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import UNSENT, State
from scrapedo_dagster.engine.targets.target import Batch, Entry


@dataclass(frozen=True)
class SubmitRequest:
    """What is to be submitted, see `Submitter.begin`; `fingerprint` is that of the options."""

    entries: Batch
    fingerprint: str
    run_id: str | None
    reuse_open_jobs: bool
    unfinished: int | None


@dataclass(frozen=True)
class Decision:
    """Whether the newest generation is continued, and what a person should know of that."""

    continues: bool
    why: str | None = None


_ANEW = Decision(False)


def decide(newest: Sequence[SubmissionWithTargets], request: SubmitRequest, now: datetime) -> Decision:
    """What to do, given the submissions of the newest generation.

    Raises:
        GenerationConflictError: neither would be right.
    """
    states = {each.state for each in newest}
    # Without targets nothing was paid, and there is nothing to go on with: the list may have been mended since.
    if State.FAILED in states or not targets_of(newest):
        return _ANEW
    # A retry goes on with what its run has begun, also where all of that was collected before Dagster knew.
    is_ours = request.run_id is not None and all(each.run_id == request.run_id for each in newest)
    if not request.reuse_open_jobs and not is_ours:
        return _ANEW
    if State.CANCELED in states:
        return _of_canceled(newest, request, now)
    if not any(each.is_open for each in newest):
        return _of_collected(newest, request, is_ours)
    return _of_open(newest, request)


def _of_canceled(newest: Sequence[SubmissionWithTargets], request: SubmitRequest, now: datetime) -> Decision:
    """It is continued if it is wanted again as it was: who canceled it may have wanted something else."""
    canceled = f"generation {newest[0].generation} was canceled, and is not continued, since"
    if now - newest[0].planned_at >= RETENTION:
        return Decision(False, f"{canceled} Scrape.do keeps results for three days. All targets are submitted anew.")
    if targets_of(newest) != targets_in(request.entries):
        return Decision(False, f"{canceled} it has other targets than are listed now. These are submitted anew.")
    if _has_other_options(newest, request):
        return Decision(False, f"{canceled} it was submitted with other options. All targets are submitted anew.")
    return Decision(True)


def _of_collected(newest: Sequence[SubmissionWithTargets], request: SubmitRequest, is_ours: bool) -> Decision:
    number = newest[0].generation
    if number == request.unfinished:
        return Decision(True, f"generation {number} was submitted and collected by a run that died, and is kept.")
    if is_ours:
        return Decision(
            True,
            f"generation {number} was submitted by this run, or by the one of which it is a re-execution, and is "
            "collected: nothing is submitted again. Launch a new run, not a re-execution, to scrape anew.",
        )
    return _ANEW


def _of_open(newest: Sequence[SubmissionWithTargets], request: SubmitRequest) -> Decision:
    number = newest[0].generation
    going_on, listed = targets_of(newest), targets_in(request.entries)
    if going_on == listed:
        return Decision(True)
    unsent = [each for each in newest if each.state in UNSENT]
    if unsent and _has_other_options(unsent, request):
        if all(each.state == State.PLANNED for each in newest):
            return Decision(
                False, f"nothing of generation {number} was sent, and other targets are listed now, with other options."
            )
        raise GenerationConflictError(
            f"{newest[0].ref}: {len(unsent)} of {len(newest)} batches of generation {number} were not sent yet, and "
            "other targets are listed now, with other options, which must not be sent to the old targets. Nothing was "
            f"submitted. Repeat what began it (run {newest[0].run_id}), or give it up with `scrapedo-dagster jobs "
            "cancel` and materialise again."
        )
    return Decision(
        True,
        f"generation {number} is still open and goes on with its {len(going_on)} targets, of which "
        f"{len(going_on & listed)} are listed now; {len(listed - going_on)} new ones wait for the next generation.",
    )


def _has_other_options(submissions: Sequence[SubmissionWithTargets], request: SubmitRequest) -> bool:
    return any(each.fingerprint != request.fingerprint for each in submissions)


def targets_of(submissions: Iterable[SubmissionWithTargets]) -> set[str]:
    """The different URLs of some submissions, without those that were rejected."""
    return {url for each in submissions for url in each.targets}


def targets_in(entries: Iterable[Entry]) -> set[str]:
    """The different URLs among some entries, without those that were rejected."""
    return {entry.url for entry in entries if entry.rejected is None}
