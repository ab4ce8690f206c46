"""From a partition's targets to Scrape.do jobs, each exactly once, whatever dies in between.

All batches of a generation are planned in one transaction before the first is sent. Each is claimed in the ledger
before its POST and recorded after it. What died between the two is reconciled against the service's list of jobs.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    NotAcceptableError,
    NotFoundError,
    RateLimitError,
    ScrapeDoError,
    SubmissionUncertainError,
)
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.api.responses import JobCreationResponse
from scrapedo_dagster.api.retry import Backoff, RetryPolicy
from scrapedo_dagster.engine.errors import LostClaimError, NeverArrivesError, NotEnoughCreditsError, WebhookError
from scrapedo_dagster.engine.inbox.address import Webhook
from scrapedo_dagster.engine.inbox.protocol import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import CANCELABLE, UNSENT, State
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.cancel import CancelResult, cancel_all
from scrapedo_dagster.engine.submission.continuation import SubmitRequest, decide, targets_in
from scrapedo_dagster.engine.submission.credits import CreditBalance, credits_per_target
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile
from scrapedo_dagster.engine.submission.resume import left_to_do
from scrapedo_dagster.engine.targets.batches import split_into_batches
from scrapedo_dagster.engine.targets.target import Batch
from scrapedo_dagster.engine.threads import run_uninterrupted

_ATTEMPTS = 5  # at submitting a batch that provably did not arrive
_BACKOFF = Backoff()
_LONGEST_RETRY_AFTER = 120.0  # seconds that a claim is kept for; within its lease
_CANCEL_SECONDS = 5.0  # that a new generation waits for the old one to be canceled
_LONGEST_PAUSE = 15.0  # seconds between two looks at what others are doing, or at what cannot be told yet
_ON_THE_WAY = (State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED)


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes:
        max_credits: credits that the targets of one generation may cost by the price list, or None.
        max_open_jobs: jobs of the account that may be open at once, or None; further ones wait their turn.
    """

    max_credits: int | None = None
    max_open_jobs: int | None = None


@dataclass(frozen=True)
class Generation:
    """A generation that has been begun. `continued` if it was open before, and its targets are those of then."""

    number: int
    continued: bool


@dataclass(frozen=True)
class Submitter:
    """Submits one partition.

    `options` are sent with every batch. `run_id` is that of the first run, for its retries too: they go on with what it
    has begun, also where all of that is collected. `log` gets a line for what a person should know. Each task is
    delivered to `webhook` as it ends, if there is one, and is then in `inbox`. `losses` counts how
    often a batch was sent in vain. `balance` is the account's, for all partitions of a step.
    """

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    ref: PartitionRef
    options: ScrapeOptions
    run_id: str | None
    log: Callable[[str], None]
    limits: Limits = field(default_factory=Limits)
    claim_policy: ClaimPolicy = field(default_factory=ClaimPolicy)
    batch_size: int = 1000
    webhook: Webhook | None = None
    inbox: Inbox | None = None
    losses: Counter[int] = field(default_factory=Counter)
    balance: CreditBalance = field(default_factory=CreditBalance)

    def __post_init__(self) -> None:
        """Refuse two webhooks: a job has one.

        Raises:
            WebhookError: the options have a webhook of their own.
        """
        if self.webhook is not None and (self.options.webhook_url or self.options.webhook_headers):
            raise WebhookError(
                f"{self.ref}: the options have a webhook_url or webhook_headers, and the resource has a webhook_url "
                "too, while a job has one webhook. Nothing was submitted. Remove one of the two."
            )

    def begin(
        self, entries: Batch, *, reuse_open_jobs: bool = True, above: int = 0, unfinished: int | None = None
    ) -> Generation:
        """Continue the open generation of the partition, or plan a new one with these entries.

        Args:
            entries: the targets.
            reuse_open_jobs: whether to continue an open generation.
            above: a new generation gets a number above this one: that of the newest files, which a ledger that was
                exchanged or lost does not know.
            unfinished: a generation whose files are not the data of the partition yet. It counts as open also when all
                of it is collected: its worker died before it could say so.

        A generation that was canceled is continued while Scrape.do keeps its results, if it has these very targets and
        options. One that is given up for a new one is canceled, as far as it is still going on.

        Raises:
            NotEnoughCreditsError: a new generation, or the rest of a canceled one, would cost too much.
            GenerationConflictError: the unsent batches would be sent with options for other targets.
            ScrapeDoError: the service could not be asked how much of a canceled generation is done.
        """
        request = SubmitRequest(entries, self.fingerprint, self.run_id, reuse_open_jobs, unfinished)
        while True:
            newest = self.ledger.generations.newest(self.ref)
            submissions = self.ledger.submissions.with_targets(self.ref, newest)
            decision = decide(submissions, request, self.ledger.now())
            if decision.why:
                self.log(f"{self.ref}: {decision.why}")
            if decision.continues:
                # First: what a run has that was terminated is canceled by whoever sees it.
                self.ledger.generations.take_over(self.ref, newest, run_id=self.run_id)
                self._resume(newest)
                return Generation(newest, continued=True)
            self._check_credits(entries)
            number = max(newest, above) + 1
            batches = split_into_batches(entries, self.batch_size)
            if self.ledger.generations.plan(
                self.ref, number, batches, fingerprint=self.fingerprint, run_id=self.run_id
            ):
                self._give_up(submissions, number)
                return Generation(number, continued=False)
            # Another worker has begun it at the same time: go on with that one.
            request = replace(request, reuse_open_jobs=True)

    def submit(self, generation: int) -> list[SubmissionWithTargets]:
        """Bring every batch of a generation to Scrape.do, and return them all. Other workers may be at it too.

        Raises:
            ScrapeDoError: the service refused, or could not be reached. What was submitted is recorded and goes on.
        """
        pauses = 0
        while True:
            submissions = self.ledger.submissions.with_targets(self.ref, generation)
            unsent = [each for each in submissions if each.state in UNSENT]
            if not unsent:
                return submissions
            if self.advance(unsent):
                pauses = 0
                continue
            if not pauses:
                self.log(
                    f"{self.ref}: {len(unsent)} batches wait to be submitted: too many other jobs of the account are "
                    "open, another run is at them, or it cannot be told yet whether they have arrived."
                )
            self._pause(pauses)
            pauses += 1

    def _pause(self, pauses: int) -> None:
        """Before the next look at what others are doing, or at what cannot be told yet."""
        time.sleep(Backoff(initial=self.claim_policy.pause, maximum=_LONGEST_PAUSE).pause(pauses))

    def advance(self, unsent: Sequence[SubmissionWithTargets]) -> bool:
        """Do for each what can be done now. False if that is nothing for any.

        They are another worker's then, or cannot be told yet, or wait for their turn.
        """
        has_advanced, has_turn = False, True
        for each in unsent:
            if each.state == State.PLANNED and each.targets:
                # Where one has no turn, the others do not ask whether another job has ended.
                has_turn = has_turn and self._has_turn()
                if not has_turn:
                    continue
            has_advanced |= self._advance(each)
        return has_advanced

    def _advance(self, submission: SubmissionWithTargets) -> bool:
        """Do for one submission what can be done now. False if that is nothing."""
        try:
            if submission.state == State.PLANNED:
                return self._send(submission)
            if submission.state == State.SUBMITTING and not self._is_orphaned(submission):
                return False
            reconciled = reconcile(self.ledger, self.client, submission, self.claim_policy)
        except LostClaimError:
            return True  # somebody else has moved it: look again
        if reconciled is not None:
            if reconciled.state == State.PLANNED:
                self._count_loss(reconciled)
            found = f"it is job {reconciled.job_id}" if reconciled.job_id else "it never arrived and is sent again"
            self.log(f"Batch {submission.batch} of {self.ref}: its submission had no answer; {found}.")
        return reconciled is not None

    def _count_loss(self, submission: SubmissionWithTargets) -> None:
        """A service that never gets, or never keeps, what it is sent must not hold a run for ever."""
        self.losses[submission.id] += 1
        if self.losses[submission.id] >= _ATTEMPTS:
            raise NeverArrivesError(
                f"Batch {submission.batch} of {self.ref} was sent {_ATTEMPTS} times, and none of them arrived at "
                f"Scrape.do or was answered. It is planned, and sent by whoever goes on: find out what is between here "
                "and Scrape.do, and try again.",
            )

    def _send(self, submission: SubmissionWithTargets) -> bool:
        if not submission.targets:
            self.ledger.submissions.mark_finished(submission)
            return True
        sending = _Sending(self, submission)
        try:
            # In the main thread, an interrupt could fall between the POST and its record.
            return run_uninterrupted(sending.run, on_interrupt=sending.stop.set, grace=self.claim_policy.grace)
        except BaseException:
            # Still on the way: whoever goes on need not wait for the lease to end.
            with suppress(Exception):
                sending.give_up()
            raise

    def _is_orphaned(self, submission: SubmissionWithTargets) -> bool:
        age = self.ledger.now() - (submission.claimed_at or submission.planned_at)
        return age > self.claim_policy.lease

    @cached_property
    def _poller(self) -> JobPoller:
        return JobPoller(self.ledger, self.client, self.inbox, self.log)

    def _has_turn(self) -> bool:
        if self.limits.max_open_jobs is None:
            return True
        if self.ledger.submissions.count(self.ref.account, _ON_THE_WAY) < self.limits.max_open_jobs:
            return True
        self._poller.poll(self.ledger.submissions.find(account=self.ref.account, states=[State.SUBMITTED]))
        return self.ledger.submissions.count(self.ref.account, _ON_THE_WAY) < self.limits.max_open_jobs

    def _check_credits(self, entries: Batch) -> None:
        targets = len(targets_in(entries))
        estimate = targets * credits_per_target(self.options)
        if self.limits.max_credits is not None and estimate > self.limits.max_credits:
            raise NotEnoughCreditsError(
                f"{targets} targets of {self.ref} cost about {estimate} credits and max_credits is "
                f"{self.limits.max_credits}: nothing was submitted. List fewer targets or raise max_credits."
            )
        available = self.balance.reserve(estimate, self.client)
        if available is not None and estimate > available:
            raise NotEnoughCreditsError(
                f"{targets} targets of {self.ref} cost about {estimate} credits and the account has {available}: "
                "nothing was submitted. List fewer targets or add credits."
            )

    def _resume(self, generation: int) -> None:
        """Go on with what was canceled of a generation, if anything was."""
        pauses = 0
        while canceled := [
            each for each in self.ledger.submissions.with_targets(self.ref, generation) if each.state == State.CANCELED
        ]:
            left = [left_to_do(self.ledger, self.client, each, self.claim_policy) for each in canceled]
            if None in left:
                self._pause(pauses)
                pauses += 1
                continue
            again = [entry for batch in left for entry in batch or ()]
            self._check_credits(tuple(again))
            for submission, batch in zip(canceled, left, strict=True):
                with suppress(LostClaimError):  # another worker goes on with it as well
                    self.ledger.submissions.resume(submission, batch or ())
            self.log(
                f"{self.ref}: generation {generation} was canceled, and goes on. {len(targets_in(again))} of its "
                "targets were not done, and are submitted again."
            )

    def _give_up(self, submissions: Sequence[SubmissionWithTargets], number: int) -> None:
        """Cancel what goes on of an older generation, which nobody will collect."""
        left = [each for each in submissions if each.state in CANCELABLE]
        outcomes = cancel_all(
            self.ledger,
            self.client,
            left,
            reason=f"generation {number} was begun in its place",
            seconds=_CANCEL_SECONDS,
            claim_policy=self.claim_policy,
        )
        if outcomes:
            still = [each for each in outcomes if each.result == CancelResult.LEFT]
            self.log(
                f"{self.ref}: {len(outcomes) - len(still)} batches of generation {left[0].generation} were given up"
                + (f", and {len(still)} may still go on: `scrapedo-dagster jobs cancel`." if still else ".")
            )

    def options_of(self, submission: SubmissionWithTargets) -> ScrapeOptions:
        """What is sent with a batch."""
        return self.options if self.webhook is None else self.webhook.added_to(self.options, submission)

    @property
    def fingerprint(self) -> str:
        """Of the options: jobs of one fingerprint are scraped alike."""
        return sha256(self.options.model_dump_json(exclude_none=True).encode()).hexdigest()


@dataclass
class _Sending:
    """One batch on its way: claimed, sent, and recorded. `stop` asks it not to begin anything more."""

    submitter: Submitter
    submission: SubmissionWithTargets
    stop: threading.Event = field(default_factory=threading.Event)
    claimed: SubmissionWithTargets | None = None

    def run(self) -> bool:
        """Send it. False if another worker was faster."""
        ledger, client = self.submitter.ledger, self.submitter.client
        claimed = self._claim(self.submission)
        if claimed is None:
            return False
        options = self.submitter.options_of(claimed)
        for attempt in range(_ATTEMPTS):
            if self.stop.is_set():
                ledger.submissions.release(claimed, "interrupted before it was sent")
                return True
            try:
                created = client.create_job(options.job(claimed.targets), retry=RetryPolicy(attempts=1))
            except (APIConnectionError, RateLimitError) as error:
                pause = max(_BACKOFF.pause(attempt), getattr(error, "retry_after", None) or 0.0)
                if attempt + 1 == _ATTEMPTS or pause > _LONGEST_RETRY_AFTER:
                    ledger.submissions.release(claimed, str(error))
                    raise
                self.stop.wait(pause)
                self.claimed = claimed = ledger.submissions.renew(claimed)
            except SubmissionUncertainError as error:
                ledger.submissions.mark_uncertain(claimed, str(error))
                return True
            except ScrapeDoError as error:
                ledger.submissions.release(claimed, str(error))
                raise
            else:
                self._record(claimed, created)
                return True
        raise AssertionError("the last attempt returns or raises")

    def give_up(self) -> None:
        """Say that nobody waits for the answer any more."""
        if self.claimed is not None:
            self.submitter.ledger.submissions.mark_uncertain(self.claimed, "interrupted while it was submitted")

    def _record(self, claimed: SubmissionWithTargets, created: JobCreationResponse) -> None:
        ledger = self.submitter.ledger
        try:
            ledger.submissions.mark_submitted(claimed, created.job_id, created.task_ids)
        except LostClaimError:
            current = ledger.submissions.get(claimed.id)
        else:
            return
        # Our answer came after the lease, or after it was given up.
        if created.job_id in ledger.submissions.known_job_ids(claimed.ref.account):
            # Another worker has adopted this very job for this batch, or for another batch with the same targets: then
            # the job of that batch may be ours.
            if current.state == State.SUBMITTING and current.claim == claimed.claim:
                ledger.submissions.mark_uncertain(
                    current, f"job {created.job_id} was adopted for another batch with the same targets"
                )
        elif current.state == State.UNCERTAIN and current.claim == claimed.claim:
            self._record(current, created)
        elif current.state == State.PLANNED and (again := self._claim(current)) is not None:
            self._record(again, created)  # nobody has sent it again yet
        else:
            self._cancel(claimed, created.job_id)

    def _claim(self, submission: SubmissionWithTargets) -> SubmissionWithTargets | None:
        self.claimed = self.submitter.ledger.submissions.claim(
            submission, run_id=self.submitter.run_id, fingerprint=self.submitter.fingerprint
        )
        return self.claimed

    def _cancel(self, claimed: SubmissionWithTargets, job_id: str) -> None:
        """Another job has been sent in place of this one, or a person wanted none: this one is too many."""
        try:
            self.submitter.client.cancel_job(job_id)
        except (NotAcceptableError, NotFoundError):
            result = "has ended already and may have been charged"
        else:
            result = "is canceled"
        self.submitter.log(
            f"Batch {claimed.batch} of {claimed.ref} was submitted once too often; job {job_id} {result}."
        )
