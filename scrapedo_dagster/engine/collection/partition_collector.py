"""Collects one partition: the state of its generation, its batches, and what completes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.collection.batch_collector import collect_batch
from scrapedo_dagster.engine.collection.limits import DEFAULT_LIMITS, CollectLimits
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.collection.progress import ProgressReporter
from scrapedo_dagster.engine.errors import AlreadyCollectedError, LostClaimError, NothingSubmittedError
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.records import PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import UNSENT, State
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.submitter import Submitter

_READY = frozenset({State.FINISHED, State.EXPIRED})


@dataclass(frozen=True)
class GenerationStatus:
    """The batches of a generation, read from the ledger and the files at one moment.

    Attributes:
        submissions: all batches.
        ready: batches whose rows can be written now and are missing.
    """

    submissions: Sequence[Submission] = ()
    ready: Sequence[Submission] = ()

    @property
    def waiting(self) -> list[Submission]:
        """Batches whose jobs have not ended."""
        return [each for each in self.submissions if each.state == State.SUBMITTED]

    @property
    def unsent(self) -> list[Submission]:
        """Batches that are not known to be jobs yet."""
        return [each for each in self.submissions if each.state in UNSENT]


@dataclass(frozen=True, eq=False)
class PartitionCollector:
    """Collects generations of one partition.

    Attributes:
        submitter: sends unsent batches of the partition, such as failed targets.
        async_client: opens a session of the account.
        retries: how often a failed target is submitted again.
    """

    submitter: Submitter
    async_client: Callable[[], AsyncScrapeDoAsyncAPIClient]
    tables: PartitionTables
    retries: int = 0
    inbox: Inbox | None = None
    limits: CollectLimits = DEFAULT_LIMITS
    clock: Clock = SYSTEM_CLOCK

    @property
    def ref(self) -> PartitionRef:
        """The partition."""
        return self.submitter.ref

    def submissions(self, generation: int) -> list[Submission]:
        """Return the batches of a generation.

        Raises:
            NothingSubmittedError: nothing was submitted, or the generation was canceled.
        """
        submissions = self.submitter.ledger.submissions.of_generation(self.ref, generation)
        if not submissions:
            raise NothingSubmittedError(f"{self.ref}: nothing was submitted. Materialize its jobs first.")
        canceled = [each for each in submissions if each.state == State.CANCELED]
        if canceled:
            raise NothingSubmittedError(
                f"{self.ref}: {len(canceled)} of {len(submissions)} batches were {canceled[0].state.value} "
                f"({canceled[0].reason}). Materialize its jobs again to continue with the targets that are not done."
            )
        return submissions

    def status(self, generation: int, report: ProgressReporter) -> GenerationStatus:
        """Return the status of a generation, and count it in the report.

        Raises:
            NothingSubmittedError: nothing was submitted, or the generation was canceled.
        """
        submissions = self.submissions(generation)
        collected = [each for each in submissions if each.state == State.COLLECTED]
        lost = self.tables.lost(collected) if collected else []
        report.update(self.ref, submissions, lost)
        return GenerationStatus(submissions, [each for each in submissions if each.state in _READY or each in lost])

    async def collect(
        self,
        submission: Submission,
        client: AsyncScrapeDoAsyncAPIClient,
        budget: MemoryBudget,
        priority: int,
        report: ProgressReporter,
    ) -> None:
        """Write the rows of one batch, unless another worker does; see `collect_batch`."""
        store = self.submitter.ledger.submissions
        while True:
            current = await asyncio.to_thread(store.get, submission.id)
            try:
                await collect_batch(
                    self.submitter.ledger,
                    client,
                    self.tables,
                    current,
                    leave_out=await asyncio.to_thread(store.positions_planned_again, current),
                    retries=self.retries,
                    inbox=self.inbox,
                    budget=budget,
                    priority=priority,
                    on_target=partial(report.target_written, submission.ref),
                    limits=self.limits,
                    clock=self.clock,
                )
            except AlreadyCollectedError:
                return
            except LostClaimError:
                # Another worker has recorded the batch, and our part has replaced its part: write it as recorded.
                continue
            return

    def send(self, status: GenerationStatus) -> bool:
        """Send the unsent batches that may be sent now. Returns whether the ledger changed."""
        return self.submitter.advance([self.submitter.ledger.submissions.get(each.id) for each in status.unsent])

    def complete(self, generation: int, status: GenerationStatus) -> None:
        """Make a generation, all of whose rows are written, the data of the partition."""
        self.tables.complete(generation, [each.batch for each in status.submissions])
        self.submitter.ledger.generations.mark_completed(self.ref, generation)

    @cached_property
    def poller(self) -> JobPoller:
        """The poller of the partition's own jobs."""
        return self.new_poller()

    def new_poller(self) -> JobPoller:
        """Return a poller for jobs of the account, also of other partitions."""
        return JobPoller(self.submitter.ledger, self.submitter.client, self.inbox, self.submitter.log)
