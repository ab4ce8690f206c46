"""Begins or continues a generation in the ledger: credit guard, plan, and the end of the replaced generation.

All batches of a generation are planned in one transaction before the first is sent. Whether a run continues the newest
generation or begins a new one is decided in `continuation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.clock import Clock
from scrapedo_dagster.engine.errors import LostClaimError, NotEnoughCreditsError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import CANCELABLE, State
from scrapedo_dagster.engine.submission.cancel import CancelResult, cancel_all
from scrapedo_dagster.engine.submission.continuation import SubmitRequest, decide, valid_urls
from scrapedo_dagster.engine.submission.credits import CreditBalance, credits_per_target
from scrapedo_dagster.engine.submission.resume import entries_to_resubmit
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.targets.batches import split_into_batches
from scrapedo_dagster.engine.targets.target import Batch


@dataclass(frozen=True)
class Generation:
    """A generation that can be submitted.

    Attributes:
        number: counted from 1 in each partition.
        continued: whether it was begun before; then it keeps the targets it was begun with.
    """

    number: int
    continued: bool


@dataclass
class Planner:
    """Plans the generations of one partition. Sends nothing.

    Attributes:
        balance: credits of the account, shared by all partitions of a step; reserving changes it.
        cancel_seconds: how long a new generation waits for the replaced one to be canceled.
    """

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    settings: SubmissionSettings
    log: Callable[[str], object]
    balance: CreditBalance
    clock: Clock
    cancel_seconds: float = 5.0

    def begin(
        self, entries: Batch, *, reuse_open_jobs: bool = True, above: int = 0, unfinished: int | None = None
    ) -> Generation:
        """Continue the newest generation of the partition, or plan a new one with these entries.

        A canceled generation is continued if it has the same targets and options and Scrape.do still keeps its
        results. What is open of a generation that is replaced is canceled.

        Args:
            entries: the targets.
            reuse_open_jobs: whether to continue an open generation that another run began.
            above: a new generation gets a number above this one: the newest generation in the files, which a ledger
                that was lost or exchanged does not know.
            unfinished: a generation that is collected, but whose files are not complete or not reported yet, since
                its worker died. It is continued like an open one.

        Raises:
            NotEnoughCreditsError: the new generation, or the rest of a canceled one, would cost too much.
            GenerationConflictError: unsent batches would be sent with options for other targets.
            ScrapeDoError: the service did not answer how much of a canceled generation is done.
        """
        settings, ledger = self.settings, self.ledger
        request = SubmitRequest(entries, settings.fingerprint, settings.run_id, reuse_open_jobs, unfinished)
        while True:
            newest = ledger.generations.newest(settings.ref)
            submissions = ledger.submissions.with_targets(settings.ref, newest)
            decision = decide(submissions, request, ledger.now())
            if decision.reason:
                self.log(f"{settings.ref}: {decision.reason}")
            if decision.continues:
                # Before anything is resumed: the completion sensor cancels what a terminated run has left open.
                ledger.generations.take_over(
                    settings.ref, newest, run_id=settings.run_id, recorded_options=settings.recorded_options
                )
                self._resume_canceled(newest)
                return Generation(newest, continued=True)
            self._reserve_credits(entries)
            number = max(newest, above) + 1
            batches = split_into_batches(entries, settings.batch_size)
            if ledger.generations.plan(
                settings.ref,
                number,
                batches,
                fingerprint=settings.fingerprint,
                run_id=settings.run_id,
                recorded_options=settings.recorded_options,
            ):
                self._cancel_replaced(submissions, number)
                return Generation(number, continued=False)
            # Another worker began the same generation at the same time: continue that one.
            request = replace(request, reuse_open_jobs=True)

    def _reserve_credits(self, entries: Batch) -> None:
        """Reserve the estimated cost of these entries.

        Raises:
            NotEnoughCreditsError: it is above `max_credits`, or above the credits of the account.
        """
        settings, limit = self.settings, self.settings.limits.max_credits
        targets = len(valid_urls(entries))
        estimate = targets * credits_per_target(settings.options)
        cost = f"{settings.ref}: {targets} targets cost about {estimate} credits"
        if limit is not None and estimate > limit:
            raise NotEnoughCreditsError(
                f"{cost}, and max_credits is {limit}. Nothing was submitted. List fewer targets or raise max_credits."
            )
        available = self.balance.reserve(estimate, self.client)
        if available is not None and estimate > available:
            raise NotEnoughCreditsError(
                f"{cost}, and the account has {available}. Nothing was submitted. List fewer targets or add credits."
            )

    def _resume_canceled(self, generation: int) -> None:
        """Plan the unfinished targets of the canceled batches of a generation again."""
        settings, ledger = self.settings, self.ledger
        checks = 0
        while canceled := [
            each for each in ledger.submissions.with_targets(settings.ref, generation) if each.state == State.CANCELED
        ]:
            unfinished = [entries_to_resubmit(ledger, self.client, each, settings.claim_policy) for each in canceled]
            if None in unfinished:
                self.clock.sleep(settings.claim_policy.backoff.pause(checks))
                checks += 1
                continue
            resubmitted = tuple(entry for batch in unfinished for entry in batch or ())
            self._reserve_credits(resubmitted)
            for submission, batch in zip(canceled, unfinished, strict=True):
                with suppress(LostClaimError):  # another worker resumes it too
                    ledger.submissions.resume(submission, batch or ())
            self.log(
                f"{settings.ref}: generation {generation} was canceled and is resumed. "
                f"{len(valid_urls(resubmitted))} of its targets were not done and are submitted again."
            )

    def _cancel_replaced(self, submissions: Sequence[SubmissionWithTargets], number: int) -> None:
        """Cancel what is open of an older generation, which is never collected."""
        open_ = [each for each in submissions if each.state in CANCELABLE]
        outcomes = cancel_all(
            self.ledger,
            self.client,
            open_,
            reason=f"replaced by generation {number}",
            seconds=self.cancel_seconds,
            claim_policy=self.settings.claim_policy,
            clock=self.clock,
        )
        if outcomes:
            left = sum(each.result == CancelResult.LEFT for each in outcomes)
            self.log(
                f"{self.settings.ref}: canceled {len(outcomes) - left} batches of generation {open_[0].generation}, "
                f"which generation {number} replaces"
                + (f"; {left} may still be running: cancel them with `scrapedo-dagster jobs cancel`." if left else ".")
            )
