"""One tick of the completion sensor: see which jobs have ended, tidy up after dead runs, and have results collected."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

import dagster as dg

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient, ScrapeDoError
from scrapedo_dagster.dataset import DATASET_TAG, Dataset
from scrapedo_dagster.engine.collection.retry_schedule import (
    MAX_ATTEMPTS,
    NextAction,
    delay_after,
    has_results_near_expiry,
    next_action,
)
from scrapedo_dagster.engine.errors import LostClaimError
from scrapedo_dagster.engine.ledger.records import GenerationRecord, PartitionRef, Submission
from scrapedo_dagster.engine.ledger.states import CANCELABLE, UNSENT, State
from scrapedo_dagster.engine.polling.order import is_near_expiry, poll_order
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.cancel import CancelResult, cancel_all
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy, reconcile
from scrapedo_dagster.execution.event_log import reported_generations
from scrapedo_dagster.execution.run_activity import RunActivity
from scrapedo_dagster.partitions.ranges import ranges_of, run_request
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.text import partitions_label

_BUDGET = 20.0  # seconds of a tick: Dagster ends one after 60, with a message that misleads
_REQUEST_TIMEOUT = 5.0  # seconds
_CANCEL_SECONDS = 5.0
_RUNS_A_TICK = 5

Found = dict[GenerationRecord, list[Submission]]
Due = dict[str | None, GenerationRecord]
Partitions = tuple[str, ...] | tuple[None]


@dataclass(frozen=True)
class _Cursor:
    """How far the ticks came: through which batch the last one looked, and since when all were looked at."""

    polled_through: int = 0
    all_polled_at: datetime | None = None

    VERSION: ClassVar[int] = 1

    @classmethod
    def read(cls, text: str | None) -> _Cursor:
        """What it says; from the beginning if another release wrote it."""
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            said = json.loads(text or "")
            if said["version"] == cls.VERSION:
                at = said["all_polled_at"]
                return cls(int(said["polled_through"]), at and datetime.fromisoformat(at))
        return cls()

    def written(self) -> str:
        at = self.all_polled_at and self.all_polled_at.isoformat()
        return json.dumps({"version": self.VERSION, "polled_through": self.polled_through, "all_polled_at": at})


@dataclass
class CompletionTick:
    """A tick. `run` is called once.

    What it knows is in the ledger; the cursor only says how far it came in looking at jobs.
    """

    context: dg.SensorEvaluationContext
    scrape_do: ScrapeDoResource
    datasets: dict[str, Dataset]  # by their names in the ledger
    deadline: float = field(default_factory=lambda: time.monotonic() + _BUDGET)

    def run(self) -> dg.SensorResult:
        """Do what there is time for."""
        runs = RunActivity(self.context.instance)
        cursor = _Cursor.read(self.context.cursor)
        with self.scrape_do.short_timeout_client(_REQUEST_TIMEOUT) as client:
            found = self._found()
            self._cancel_what_nobody_wants(client, found, runs)
            if found:
                self._reconcile(client, found, runs)
                cursor = self._look(client, found, cursor)
        # The runs first: one that ends while we look counts as being at work, and is done by the next tick.
        runs = RunActivity(self.context.instance)
        found = self._found()
        requests = self._requests(found, runs)
        waiting = sum(each.state == State.SUBMITTED for batches in found.values() for each in batches)
        return dg.SensorResult(
            run_requests=requests,
            cursor=cursor.written(),
            skip_reason=None if requests else f"Nothing to collect; {waiting} jobs are open.",
        )

    def _found(self) -> Found:
        return self.scrape_do.ledger.generations.unconfirmed(self.scrape_do.account, self.datasets)

    def _cancel_what_nobody_wants(self, client: ScrapeDoAsyncAPIClient, found: Found, runs: RunActivity) -> None:
        """Terminate does not reach a run between two steps, nor one without a signal, nor always all jobs in its time.

        And a worker may die before it has canceled what its new generation replaces.
        """
        ledger, account = self.scrape_do.ledger, self.scrape_do.account
        open_ones = [each for batches in found.values() for each in batches if each.state in CANCELABLE]
        left = self._of_ended_runs([*open_ones, *ledger.submissions.open_of_canceled(account, self.datasets)], runs)
        terminated = runs.terminated({run_id for each in left.values() if (run_id := each[0].run_id)})
        wanted_no_more = {
            "its run was terminated": {of: each for of, each in left.items() if each[0].run_id in terminated},
            "a newer generation was begun": self._of_ended_runs(
                ledger.submissions.open_of_superseded(account, self.datasets), runs
            ),
        }
        for reason, generations in wanted_no_more.items():
            for (ref, _), batches in generations.items():
                if self._has_tidied_enough():
                    return
                outcomes = cancel_all(
                    ledger,
                    client,
                    [ledger.submissions.get(each.id) for each in batches],
                    reason=reason,
                    seconds=_CANCEL_SECONDS,
                )
                still = sum(each.result == CancelResult.LEFT for each in outcomes)
                self.context.log.warning(
                    f"{ref}: {reason}; {len(outcomes) - still} of its open jobs were ended, and {still} are left for "
                    "the next tick."
                )

    def _of_ended_runs(
        self, batches: Iterable[Submission], runs: RunActivity
    ) -> dict[tuple[PartitionRef, int], list[Submission]]:
        """By generation; without those at which a run may be."""
        found: dict[tuple[PartitionRef, int], list[Submission]] = {}
        for each in batches:
            if not runs.is_active(each.run_id):
                found.setdefault((each.ref, each.generation), []).append(each)
        return found

    def _reconcile(self, client: ScrapeDoAsyncAPIClient, found: Found, runs: RunActivity) -> None:
        """Find out what became of submissions whose run died while it sent them."""
        claim_policy = ClaimPolicy.for_request_timeout(self.scrape_do.request_timeout)
        ledger = self.scrape_do.ledger
        now = ledger.now()
        for each in (each for batches in found.values() for each in batches):
            is_unsure = each.state in {State.SUBMITTING, State.UNCERTAIN}
            is_alive = runs.is_active(each.run_id) and not claim_policy.is_abandoned(each, now)
            if not is_unsure or is_alive or self._has_tidied_enough():
                continue
            with suppress(LostClaimError):
                try:
                    reconciled = reconcile(
                        ledger,
                        client,
                        ledger.submissions.get(each.id),
                        claim_policy,
                        deadline=self.deadline - _BUDGET / 2,
                    )
                except ScrapeDoError as error:
                    self.context.log.warning(f"{each.ref}: Scrape.do could not be asked ({error}).")
                    return
                if reconciled is not None:
                    became = f"it is job {reconciled.job_id}" if reconciled.job_id else "it never arrived"
                    self.context.log.info(f"{each.ref}, batch {each.batch}: its submission had no answer; {became}.")

    def _look(self, client: ScrapeDoAsyncAPIClient, found: Found, cursor: _Cursor) -> _Cursor:
        """Look at open jobs. Returns how far it came, so that the next tick begins with the others."""
        looked: list[Submission] = []
        ended: list[Submission] = []
        batches = [each for of_generation in found.values() for each in of_generation]
        now = self.scrape_do.ledger.now()
        turn = poll_order(batches, cursor.polled_through, now)
        poller = JobPoller(
            self.scrape_do.ledger, client, self.scrape_do.inbox, self.context.log.warning, cursor.all_polled_at
        )
        try:
            ended = poller.poll(turn, on_polled=looked.append, deadline=self.deadline)
        except ScrapeDoError as error:
            self.context.log.warning(f"Scrape.do could not be asked ({error}); the next tick asks again.")
        if turn:
            near = sum(is_near_expiry(each, now) for each in turn)
            self.context.log.info(
                f"Looked at {len(looked)} of {len(turn)} open jobs: {len(ended)} have ended, {near} are near expiry."
                + (" The others come next." if len(looked) < len(turn) else "")
            )
        return _Cursor(looked[-1].id if looked else cursor.polled_through, poller.polled_at)

    def _requests(self, found: Found, runs: RunActivity) -> list[dg.RunRequest]:
        """Runs that bring home what nobody is bringing home."""
        now = self.scrape_do.ledger.now()
        requests: list[dg.RunRequest] = []
        for name, dataset in self.datasets.items():
            of_dataset = {record: batches for record, batches in found.items() if record.ref.dataset == name}
            if not of_dataset:
                continue
            at_work = runs.collecting_partitions(dataset)
            # A run that has not collected what is about to expire is dead, or waits for its turn too long.
            left = [
                record
                for record, batches in of_dataset.items()
                if has_results_near_expiry(batches, now) or not _is_at_work(record, batches, runs, at_work)
            ]
            told = self._told(dataset, [record for record in left if record.completed_at is not None])
            self.scrape_do.ledger.generations.mark_confirmed(told)
            needs: dict[NextAction, Due] = {need: {} for need in NextAction}
            for record in (each for each in left if each not in told):
                needs[next_action(record, of_dataset[record], now)][record.ref.partition] = record
            self._log_exhausted_attempts(dataset, needs[NextAction.INTERVENE])
            for partitions in self._runs_of(dataset, needs[NextAction.COLLECT]):
                if len(requests) < _RUNS_A_TICK:
                    requests += self._launch(dataset, partitions, needs[NextAction.COLLECT])
        return requests

    def _log_exhausted_attempts(self, dataset: Dataset, given_up: Due) -> None:
        if given_up:
            which = partitions_label(given_up)
            self.context.log.error(
                f"{dataset.name}: {MAX_ATTEMPTS} runs to collect {which} have failed, and no more are launched before "
                f"the last day. Look at the last one, and materialise {dataset.tasks_key.to_user_string()!r} and "
                f"{dataset.contents_key.to_user_string()!r} before the results expire."
            )

    def _told(self, dataset: Dataset, complete: Sequence[GenerationRecord]) -> set[GenerationRecord]:
        """Of which generations Dagster knows. A run may die after the files and before the event."""
        # The last asset that a run tells of.
        told = reported_generations(
            self.context.instance, dataset.contents_key, [each.ref.partition for each in complete]
        )
        return {each for each in complete if told.get(each.ref.partition, 0) >= each.number}

    def _runs_of(self, dataset: Dataset, due: Due) -> Sequence[Partitions]:
        """The partitions of each run; the longest first, since the others may grow until there is room for them."""
        ranges: Sequence[Partitions]
        if dataset.partitions_def is None:
            ranges = [(None,)] if None in due else []
        else:
            keys = {key for key in due if key is not None}
            ranges = ranges_of(keys, dataset.partitions_def, self.context.instance) if keys else []
        if gone := due.keys() - {key for each in ranges for key in each}:
            self.context.log.error(
                f"{dataset.name}: what was submitted for {partitions_label(gone)} cannot be collected: the dataset "
                "has no such partition. Add it again before its results expire."
            )
        return ranges

    def _launch(self, dataset: Dataset, partitions: Partitions, due: Due) -> list[dg.RunRequest]:
        """A run of neighbours; several if another sensor was faster with some of them."""
        key = uuid.uuid4().hex
        # Recorded before it is launched: a tick that dies in between loses a minute, and launches nothing twice.
        won = {
            record.ref.partition: record
            for record in self.scrape_do.ledger.generations.mark_collection_requested(
                [due[partition] for partition in partitions], key, again_after=delay_after
            )
        }
        runs = [partitions] if len(won) == len(partitions) else self._runs_of(dataset, won)
        return [self._request(dataset, each, won, f"{key}-{number}") for number, each in enumerate(runs)]

    def _request(self, dataset: Dataset, partitions: Partitions, due: Due, key: str) -> dg.RunRequest:
        attempt = max(due[partition].collect_attempts for partition in partitions) + 1
        self.context.log.info(f"{dataset.name}: collecting {_listed(partitions)} (attempt {attempt}).")
        tags = {DATASET_TAG: dataset.ledger_name, "scrapedo/attempt": str(attempt)}
        return run_request(dataset.collect_job_name, partitions, run_key=key, tags=tags)

    def _has_tidied_enough(self) -> bool:
        """Half of the time is for looking at jobs, whatever there is to be tidied up."""
        return time.monotonic() >= self.deadline - _BUDGET / 2


def _is_at_work(
    record: GenerationRecord, batches: Sequence[Submission], runs: RunActivity, at_work: set[str | None]
) -> bool:
    """Whether a run submits it, collects it, or is going to."""
    return record.ref.partition in at_work or any(
        runs.is_active_and_collects(each.run_id) or (each.state in UNSENT and runs.is_active(each.run_id))
        for each in batches
    )


def _listed(partitions: Sequence[str | None]) -> str:
    if partitions[0] is None:
        return "it"
    if len(partitions) == 1:
        return f"partition {partitions[0]!r}"
    return f"{len(partitions)} partitions, {partitions[0]!r} to {partitions[-1]!r}"
