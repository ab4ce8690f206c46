"""Decides whether a run continues the newest generation of a partition or begins a new one. Changes nothing."""

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
    """What a run wants to submit; the fields are explained in `Planner.begin`. `fingerprint` is that of the options."""

    entries: Batch
    fingerprint: str
    run_id: str | None
    reuse_open_jobs: bool
    unfinished: int | None


@dataclass(frozen=True)
class Decision:
    """Whether the newest generation is continued, and the reason if a person should know it."""

    continues: bool
    reason: str | None = None


_BEGIN = Decision(False)


def decide(newest: Sequence[SubmissionWithTargets], request: SubmitRequest, now: datetime) -> Decision:
    """Decide, given the submissions of the newest generation.

    Raises:
        GenerationConflictError: neither would be right.
    """
    states = {each.state for each in newest}
    # A generation without targets cost nothing, and its list may have been corrected since.
    if not urls_of(newest):
        return _BEGIN
    # A retry continues what its run began, even if all of it was collected before Dagster recorded that.
    is_own = request.run_id is not None and all(each.run_id == request.run_id for each in newest)
    if not request.reuse_open_jobs and not is_own:
        return _BEGIN
    if State.CANCELED in states:
        return _decide_canceled(newest, request, now)
    if not any(each.is_open for each in newest):
        return _decide_collected(newest, request, is_own)
    return _decide_open(newest, request)


def _decide_canceled(newest: Sequence[SubmissionWithTargets], request: SubmitRequest, now: datetime) -> Decision:
    """Continue it only unchanged: it may have been canceled because other targets or options are wanted."""
    not_continued = f"generation {newest[0].generation} was canceled and is not continued"
    if now - newest[0].planned_at >= RETENTION:
        return Decision(
            False, f"{not_continued}: Scrape.do keeps results for three days. All targets are submitted again."
        )
    if urls_of(newest) != valid_urls(request.entries):
        return Decision(False, f"{not_continued}: it has other targets than the new list, which is submitted whole.")
    if _has_other_options(newest, request):
        return Decision(False, f"{not_continued}: it has other options. All targets are submitted again.")
    return Decision(True)


def _decide_collected(newest: Sequence[SubmissionWithTargets], request: SubmitRequest, is_own: bool) -> Decision:
    number = newest[0].generation
    if number == request.unfinished:
        return Decision(True, f"generation {number} was submitted and collected by a run that died, and is kept.")
    if is_own:
        return Decision(
            True,
            f"generation {number} was submitted by this run, or by the run that it re-executes, and is collected: "
            "nothing is submitted again. Launch a new run, not a re-execution, to scrape again.",
        )
    return _BEGIN


def _decide_open(newest: Sequence[SubmissionWithTargets], request: SubmitRequest) -> Decision:
    number = newest[0].generation
    open_urls, listed_urls = urls_of(newest), valid_urls(request.entries)
    if open_urls == listed_urls:
        return Decision(True)
    unsent = [each for each in newest if each.state in UNSENT]
    if unsent and _has_other_options(unsent, request):
        if all(each.state == State.PLANNED for each in newest):
            return Decision(
                False,
                f"generation {number} is replaced: nothing of it was sent, and the new list has other targets and "
                "options.",
            )
        raise GenerationConflictError(
            f"{newest[0].ref}: {len(unsent)} of {len(newest)} batches of generation {number} were not sent yet. The "
            "new list has other targets and other options, which must not be sent with the old targets. Nothing was "
            f"submitted. Repeat the run that began it ({newest[0].run_id}), or cancel it with `scrapedo-dagster jobs "
            "cancel` and materialize again."
        )
    return Decision(
        True,
        f"generation {number} is still open and continues with its {len(open_urls)} targets. "
        f"{len(open_urls & listed_urls)} of them are in the new list; its {len(listed_urls - open_urls)} new targets "
        "wait for the next generation.",
    )


def _has_other_options(submissions: Sequence[SubmissionWithTargets], request: SubmitRequest) -> bool:
    return any(each.fingerprint != request.fingerprint for each in submissions)


def urls_of(submissions: Iterable[SubmissionWithTargets]) -> set[str]:
    """Return the distinct URLs of submissions, without rejected entries."""
    return {url for each in submissions for url in each.targets}


def valid_urls(entries: Iterable[Entry]) -> set[str]:
    """Return the distinct URLs of entries, without rejected ones."""
    return {entry.url for entry in entries if entry.rejected is None}
