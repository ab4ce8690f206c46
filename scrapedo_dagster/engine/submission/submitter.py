"""Turns a partition's targets into Scrape.do jobs, each exactly once, whatever dies in between.

`planner` records all batches of a generation before the first is sent, `sender` sends one batch, `reconcile` finds out
what became of a batch whose answer was lost. The loop here picks what is unsent, and waits for its turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.errors import LostClaimError, NeverArrivesError, UnknownOptionsError
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import UNSENT, State
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.credits import CreditBalance
from scrapedo_dagster.engine.submission.planner import Generation, Planner
from scrapedo_dagster.engine.submission.reconcile import reconcile
from scrapedo_dagster.engine.submission.sender import BatchSender
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.targets.target import Batch

_OPEN_JOBS = (State.SUBMITTING, State.UNCERTAIN, State.SUBMITTED)


@dataclass(eq=False)
class Submitter:
    """Submits one partition.

    Attributes:
        settings: what is sent, and within which limits.
        log: called with lines for a person.
        inbox: where tasks are delivered, if the settings have a webhook.
        balance: credits of the account, shared by all partitions of a step.
    """

    ledger: Ledger
    client: ScrapeDoAsyncAPIClient
    settings: SubmissionSettings
    log: Callable[[str], object]
    inbox: Inbox | None = None
    balance: CreditBalance = field(default_factory=CreditBalance)
    clock: Clock = SYSTEM_CLOCK

    def __post_init__(self) -> None:
        """Set up what plans, sends and polls."""
        self._planner = Planner(self.ledger, self.client, self.settings, self.log, self.balance, self.clock)
        self._poller = JobPoller(self.ledger, self.client, self.inbox, self.log, clock=self.clock)
        self._lost_sends: Counter[int] = Counter()  # by submission: how often it was sent and did not arrive

    @property
    def ref(self) -> PartitionRef:
        """The partition."""
        return self.settings.ref

    def begin(
        self, entries: Batch, *, reuse_open_jobs: bool = True, above: int = 0, unfinished: int | None = None
    ) -> Generation:
        """Continue the newest generation of the partition, or plan a new one; see `Planner.begin`."""
        return self._planner.begin(entries, reuse_open_jobs=reuse_open_jobs, above=above, unfinished=unfinished)

    def submit(self, generation: int) -> list[SubmissionWithTargets]:
        """Submit every batch of a generation, and return them. Other workers may do so at the same time.

        Raises:
            ScrapeDoError: the service refused a batch, or could not be reached. What was sent before is recorded.
            NeverArrivesError: a batch was sent several times and did not arrive.
        """
        idle_rounds = 0
        while True:
            submissions = self.ledger.submissions.with_targets(self.ref, generation)
            unsent = [each for each in submissions if each.state in UNSENT]
            if not unsent:
                return submissions
            if self.advance(unsent):
                idle_rounds = 0
                continue
            if not idle_rounds:
                self.log(
                    f"{self.ref}: {len(unsent)} batches wait to be submitted: the account has too many other open "
                    "jobs, another run is submitting them, or it is not known yet whether they arrived."
                )
            self.clock.sleep(self.settings.claim_policy.backoff.pause(idle_rounds))
            idle_rounds += 1

    def advance(self, unsent: Sequence[SubmissionWithTargets]) -> bool:
        """Send or reconcile each unsent submission if that is possible now. Returns whether any was.

        Raises:
            UnknownOptionsError: this run does not know all options.
        """
        if unknown := self.settings.unknown_options:
            raise UnknownOptionsError(
                f"{self.ref}: {len(unsent)} batches were not sent before their run ended, and this run cannot send "
                f"them, since these options are not recorded: {', '.join(unknown)}. Re-execute run "
                f"{unsent[0].run_id}, or launch a run with its config and with partition_key={self.ref.partition!r}: "
                "it sends them, and pays for nothing twice. Results of the other batches are kept."
            )
        has_advanced, has_slot = False, True
        for each in unsent:
            if each.state == State.PLANNED and each.targets:
                # Once there is no slot for one batch, the others do not poll for one.
                has_slot = has_slot and self._has_slot()
                if not has_slot:
                    continue
            has_advanced |= self._advance_one(each)
        return has_advanced

    def _advance_one(self, submission: SubmissionWithTargets) -> bool:
        policy = self.settings.claim_policy
        try:
            if submission.state == State.PLANNED:
                sender = BatchSender(self.ledger, self.client, self.settings, self.log, self.clock)
                return sender.send(submission)
            if submission.state == State.SUBMITTING and not policy.is_abandoned(submission, self.ledger.now()):
                return False
            reconciled = reconcile(self.ledger, self.client, submission, policy)
        except LostClaimError:
            return True  # another worker changed it: read it again
        if reconciled is None:
            return False
        if reconciled.state == State.PLANNED:
            self._count_lost_send(reconciled)
        found = f"it is job {reconciled.job_id}" if reconciled.job_id else "it did not arrive and is sent again"
        self.log(f"{self.ref}, batch {submission.batch}: the answer to its submission was lost; {found}.")
        return True

    def _count_lost_send(self, submission: SubmissionWithTargets) -> None:
        """Raise if a batch was lost so often that something between here and Scrape.do must be broken."""
        self._lost_sends[submission.id] += 1
        attempts = self.settings.retry.attempts
        if self._lost_sends[submission.id] >= attempts:
            raise NeverArrivesError(
                f"{self.ref}, batch {submission.batch}: sent {attempts} times, and it never arrived at Scrape.do. "
                "It stays planned, and the next run sends it. Find out what is between here and Scrape.do, and try "
                "again."
            )

    def _has_slot(self) -> bool:
        """Return whether the account may have another open job. Polls the open ones if there are too many."""
        limit, account = self.settings.limits.max_open_jobs, self.ref.account
        submissions = self.ledger.submissions
        if limit is None or submissions.count(account, _OPEN_JOBS) < limit:
            return True
        self._poller.poll(submissions.find(account=account, states=[State.SUBMITTED]))
        return submissions.count(account, _OPEN_JOBS) < limit
