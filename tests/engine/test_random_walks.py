"""Random walks: workers that submit, wait, collect, cancel and die, on a service that fails in every way.

After every step: each job of the service is one batch of the ledger, or the one whose answer was lost; what is complete
has one row for each entry; and nothing that was readable goes away.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.retry import Backoff, RetryPolicy
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.emulator.state import RETENTION
from scrapedo_dagster.engine.collection.limits import CollectLimits
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.errors import LedgerError, NothingSubmittedError
from scrapedo_dagster.engine.ledger.generations import GenerationStore
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.submissions import SubmissionStore
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.submission.cancel import cancel_all, open_submissions
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.collection import wait_and_collect
from tests.support.submission import make_submitter

TOKEN = "canary-7f3a9c"
QUICK = Backoff(initial=0.001, maximum=0.005)
RETRY = RetryPolicy(attempts=3, backoff=QUICK)
PARTITIONS = ["mon", "tue"]

# Where a worker may die: before or after a request, and before or after the ledger learns of it.
DEATHS = [
    None,
    *(
        f"{when} {what}"
        for what in ("plan", "create_job", "submitting", "submitted", "resumed")
        for when in ("before", "after")
    ),
]
DEATHS_WHILE_COLLECTING = [
    None,
    *(f"{when} {what}" for what in ("finished", "collected", "complete", "submitted") for when in ("before", "after")),
]

ENDPOINTS = st.sampled_from(["create_job", "create_job", "list_jobs", "get_job", "get_task", "*"])
CALL_FAULTS = st.builds(
    lambda endpoint, probability, fault: {"endpoint": endpoint, "probability": probability, **fault},
    ENDPOINTS,
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from(
        [
            {"kind": "drop", "when": "before"},
            {"kind": "drop", "when": "after"},
            {"kind": "status", "status": 429},
            {"kind": "status", "status": 502, "body": "html"},
            {"kind": "status", "status": 500, "when": "after"},
            {"kind": "status", "status": 200, "body": "html"},
            {"kind": "truncate"},
        ]
    ),
)
TARGET_FAULTS = st.sampled_from(
    [
        {"kind": "error", "probability": 0.3},
        {"kind": "linger", "status": "verifying", "seconds": 50, "probability": 0.5},
        {"kind": "missing", "probability": 0.2},
        {"kind": "gone", "probability": 0.2},
    ]
)
WIRES = st.sampled_from(
    [
        {},
        {"normalize_urls": True, "shuffle_task_ids": True},
        {"times_before_end": "hidden", "absent": "go", "fraction_digits": 9},
    ]
)


class Died(BaseException):
    """The process is gone: nothing after this point happens."""


class Mortal:
    """How long one worker lives: `at` is where it dies."""

    def __init__(self, at: str | None) -> None:
        self.at = at
        self.dead = False

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        self.pass_by(f"before {what}")
        yield
        self.pass_by(f"after {what}")

    def pass_by(self, point: str) -> None:
        if point == self.at:
            self.dead = True
        if self.dead:
            raise Died(self.at)


def mortal_method(store: type, name: str, step: str) -> Callable[..., Any]:
    """The method of a store, for a worker that may die before or after it."""
    method = getattr(store, name)

    def mortal(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args == ([],):  # nothing to record
            return []
        with self.ledger.mortal.during(step):
            return method(self, *args, **kwargs)

    return mortal


class WalkGenerations(GenerationStore):
    ledger: WalkLedger
    plan = mortal_method(GenerationStore, "plan", "plan")


class WalkSubmissions(SubmissionStore):
    ledger: WalkLedger
    claim = mortal_method(SubmissionStore, "claim", "submitting")
    renew = mortal_method(SubmissionStore, "renew", "submitting")
    release = mortal_method(SubmissionStore, "release", "planned")
    mark_uncertain = mortal_method(SubmissionStore, "mark_uncertain", "uncertain")
    mark_submitted = mortal_method(SubmissionStore, "mark_submitted", "submitted")
    mark_finished = mortal_method(SubmissionStore, "mark_finished", "finished")
    mark_all_finished = mortal_method(SubmissionStore, "mark_all_finished", "finished")
    mark_expired = mortal_method(SubmissionStore, "mark_expired", "expired")
    mark_canceled = mortal_method(SubmissionStore, "mark_canceled", "canceled")
    mark_collected = mortal_method(SubmissionStore, "mark_collected", "collected")
    resume = mortal_method(SubmissionStore, "resume", "resumed")


class WalkLedger(Ledger):
    ahead: ClassVar[list[timedelta]] = [timedelta()]

    mortal = Mortal(None)

    def __init__(self, url: Any) -> None:
        super().__init__(url)
        self.submissions = WalkSubmissions(self)
        self.generations = WalkGenerations(self)
        self.submissions.ledger = self.generations.ledger = self

    def now(self) -> Any:
        return super().now() + self.ahead[0]


class WalkClient(ScrapeDoAsyncAPIClient):
    mortal = Mortal(None)

    def create_job(self, *args: Any, **kwargs: Any) -> Any:
        with self.mortal.during("create_job"):
            return super().create_job(*args, **kwargs)

    def list_jobs(self, *args: Any, **kwargs: Any) -> Any:
        self.mortal.pass_by("a dead worker lists nothing")
        return super().list_jobs(*args, **kwargs)


class WalkTables(PartitionTables):
    mortal = Mortal(None)

    def complete(self, generation: int, batches: Any) -> None:
        with self.mortal.during("complete"):
            super().complete(generation, batches)


class Walk(RuleBasedStateMachine):
    site: ClassVar[DemoSite]
    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="scrapedo-walk-")
        self.emulator = Emulator(token=TOKEN, speed=1000)
        self.emulator.__enter__()
        self.client = ScrapeDoAsyncAPIClient(TOKEN, base_url=self.emulator.base_url, timeout=5.0, retry=RETRY)
        WalkLedger.ahead[0] = timedelta()
        self.ledger = WalkLedger(f"sqlite:///{self.directory.name}/ledger.db")
        self.faults: dict[str, Any] = {}
        self.may_lose = False  # results are taken away by a fault, or by time
        self.newest: dict[str, int] = {}

    def teardown(self) -> None:
        self.client.close()
        self.ledger.close()
        self.emulator.__exit__(None, None, None)
        self.directory.cleanup()

    def ref(self, partition: str) -> PartitionRef:
        return PartitionRef(account_fingerprint(TOKEN), "shop", partition)

    def tables(self, partition: str, mortal: Mortal | None = None) -> WalkTables:
        store = ParquetStore(str(Path(self.directory.name) / "data"))
        tasks, contents = (
            store.table(["shop", name], schema)
            for name, schema in (("tasks", TASKS_SCHEMA), ("contents", CONTENTS_SCHEMA))
        )
        tables = WalkTables(tasks, contents, partition)
        object.__setattr__(tables, "mortal", mortal or Mortal(None))
        return tables

    @contextmanager
    def worker(self, partition: str, death: str | None, claim_policy: ClaimPolicy | None = None) -> Iterator[Submitter]:
        """A new process, which may die. The next one takes it for dead after a moment."""
        mortal = Mortal(death)
        ledger = WalkLedger(f"sqlite:///{self.directory.name}/ledger.db")
        ledger.mortal = mortal
        client = WalkClient(TOKEN, base_url=self.emulator.base_url, timeout=5.0, retry=RETRY)
        client.mortal = mortal
        with client:
            yield make_submitter(
                ledger,
                client,
                self.ref(partition),
                log=lambda _line: None,
                run_id=uuid4().hex,  # each worker is a run of its own
                claim_policy=claim_policy
                or ClaimPolicy(timedelta(milliseconds=1), timedelta(0), pause=0.002, grace=1.0),
                retry=RetryPolicy(backoff=QUICK),
                batch_size=2,
            )
        ledger.close()

    def materialize(
        self, partition: str, numbers: list[int], death: str | None, claim_policy: ClaimPolicy | None = None
    ) -> None:
        urls = [f"{self.site.base_url}/2026-01-01/products/{number}" for number in numbers]
        tables = self.tables(partition)
        with self.worker(partition, death, claim_policy) as submitter:
            try:
                generation = submitter.begin(
                    validated_entries(urls, "raise"),
                    above=tables.newest_generation(),
                    **unfinished_of(tables),
                )
                submitter.submit(generation.number)
                self.done["submitted"] += 1
            except (ScrapeDoError, LedgerError):
                self.done["submit failed"] += 1
            except Died:
                self.done[f"died {death}"] += 1

    def wait_and_collect(self, partition: str, retries: int, death: str | None) -> None:
        with self.worker(partition, death) as submitter:
            generation = self.ledger.generations.newest(self.ref(partition))
            collector = PartitionCollector(
                submitter,
                lambda: AsyncScrapeDoAsyncAPIClient(TOKEN, base_url=self.emulator.base_url, timeout=5.0, retry=RETRY),
                self.tables(partition, submitter.ledger.mortal),  # type: ignore[attr-defined]
                retries=retries,
                limits=CollectLimits(task_poll=QUICK, task_end_delay=0.2),
            )
            try:
                wait_and_collect(
                    collector, generation, job_timeout=timedelta(seconds=0.5), poll=Backoff(initial=0.01, maximum=0.05)
                )
            except NothingSubmittedError:
                self.done["nothing to collect"] += 1
            except (ScrapeDoError, LedgerError):
                self.done["collect failed"] += 1
            except Died:
                self.done[f"died {death}"] += 1
            else:
                self.done["collected"] += 1
                complete = self.tables(partition).tasks.current_generation(partition)
                assert complete is not None
                assert complete.generation == generation

    @rule(
        partition=st.sampled_from(PARTITIONS),
        numbers=st.lists(st.integers(1, 4), max_size=5),
        death=st.sampled_from(DEATHS),
    )
    def submit(self, partition: str, numbers: list[int], death: str | None) -> None:
        self.materialize(partition, numbers, death)

    @rule(partition=st.sampled_from(PARTITIONS), death=st.sampled_from(DEATHS))
    def submit_the_same(self, partition: str, death: str | None) -> None:
        """Open batches are continued, and canceled ones are resumed."""
        newest = self.ledger.submissions.with_targets(
            self.ref(partition), self.ledger.generations.newest(self.ref(partition))
        )
        numbers = [int(url.rpartition("/")[2]) for batch in newest if not batch.attempt for url in batch.targets]
        self.materialize(partition, numbers, death)
        canceled = [each for each in newest if each.state == State.CANCELED]
        self.done["resumed"] += any(self.ledger.submissions.get(each.id).state == State.FINISHED for each in canceled)

    @rule(partition=st.sampled_from(PARTITIONS), death=st.sampled_from(DEATHS))
    def cancel_and_submit_the_same(self, partition: str, death: str | None) -> None:
        self.cancel_these(open_submissions(self.ledger, [self.ref(partition)]))
        self.submit_the_same(partition, death)

    # No rule has a precondition: what the ledger holds depends on time, and hypothesis needs the same walk twice.
    @rule(
        partition=st.sampled_from(PARTITIONS), retries=st.integers(0, 1), death=st.sampled_from(DEATHS_WHILE_COLLECTING)
    )
    def collect(self, partition: str, retries: int, death: str | None) -> None:
        self.wait_and_collect(partition, retries, death)

    @rule(partition=st.sampled_from(PARTITIONS), retries=st.integers(0, 1))
    def collect_in_calm(self, partition: str, retries: int) -> None:
        self.emulator.set_faults({})
        self.wait_and_collect(partition, retries, None)

    @rule(partition=st.sampled_from(PARTITIONS), numbers=st.lists(st.integers(1, 4), min_size=1, max_size=5))
    def submit_twice_at_once(self, partition: str, numbers: list[int]) -> None:
        if self.ledger.submissions.find(states=[State.SUBMITTING]):
            return  # the living would wait for the dead
        living = ClaimPolicy(timedelta(minutes=10), timedelta(0), pause=0.002, grace=1.0)
        threads = [threading.Thread(target=self.materialize, args=(partition, numbers, None, living)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @rule()
    def poller(self) -> None:
        with suppress(ScrapeDoError):
            JobPoller(self.ledger, self.client, None, print).poll(
                self.ledger.submissions.find(states=[State.SUBMITTED])
            )

    @rule()
    def cancel(self) -> None:
        self.cancel_these(self.cancelable())

    def cancel_these(self, submissions: list[SubmissionWithTargets]) -> None:
        claim_policy = ClaimPolicy(timedelta(milliseconds=1), timedelta(0))
        cancel_all(self.ledger, self.client, submissions, reason="a person", seconds=2.0, claim_policy=claim_policy)
        self.done["canceled"] += bool(submissions)

    def cancelable(self) -> list[SubmissionWithTargets]:
        """The cancelable submissions of the first partition that has any."""
        found = (open_submissions(self.ledger, [self.ref(partition)]) for partition in PARTITIONS)
        return next(filter(None, found), [])

    @rule(
        calls=st.lists(CALL_FAULTS, max_size=3),
        at_targets=st.lists(TARGET_FAULTS, max_size=1),
        job_ends_badly=st.booleans(),
        wire=WIRES,
        seed=st.integers(0, 9),
    )
    def change_the_weather(
        self, calls: list[Any], at_targets: list[Any], job_ends_badly: bool, wire: dict[str, Any], seed: int
    ) -> None:
        self.may_lose |= any(fault["kind"] in {"missing", "gone"} for fault in at_targets)
        jobs = [{"end_status": "error", "probability": 0.5}] if job_ends_badly else []
        self.emulator.set_faults({"seed": seed, "wire": wire, "calls": calls, "targets": at_targets, "jobs": jobs})

    @rule()
    def calm(self) -> None:
        self.emulator.set_faults({})

    @rule(hours=st.sampled_from([1, 30, 73]))
    def time_passes(self, hours: int) -> None:
        self.emulator.advance(timedelta(hours=hours))
        WalkLedger.ahead[0] += timedelta(hours=hours)
        self.may_lose |= WalkLedger.ahead[0] >= RETENTION

    @invariant()
    def each_job_is_one_batch_or_the_one_whose_answer_was_lost(self) -> None:
        now = self.emulator.now()
        batches = self.ledger.submissions.find()
        jobs = {job.job_id: job for job in self.emulator.jobs()}
        known = {batch.job_id: batch for batch in batches if batch.job_id is not None}
        assert set(known) <= set(jobs)
        for job_id, batch in known.items():
            assert Counter(jobs[job_id].targets) == Counter(batch.targets)
        lost = [batch for batch in batches if batch.state in {State.SUBMITTING, State.UNCERTAIN}]
        may_be = Counter(tuple(sorted(batch.targets)) for batch in lost)
        # What expired before anybody looked for it cannot be found any more.
        unknown = [job for job in jobs.values() if job.job_id not in known and job.created + RETENTION > now]
        surplus = Counter(tuple(sorted(job.targets)) for job in unknown) - may_be
        assert not surplus, f"submitted and paid, and nobody knows of it: {surplus}"

    @invariant()
    def what_is_complete_has_one_row_for_each_entry(self) -> None:
        for partition in PARTITIONS:
            tables = self.tables(partition)
            complete = tables.tasks.current_generation(partition)
            if complete is None:
                assert partition not in self.newest
                continue
            assert complete.generation >= self.newest.get(partition, 0)
            self.newest[partition] = complete.generation
            batches = self.ledger.submissions.with_targets(self.ref(partition), complete.generation)
            assert {batch.state for batch in batches} == {State.COLLECTED}, "green before it was complete"
            entries = sorted(
                (entry.position, entry.url) for batch in batches if not batch.attempt for entry in batch.entries
            )
            rows = tables.tasks.dataset([partition]).to_table().to_pylist()
            assert sorted((row["position"], row["url"]) for row in rows) == entries
            assert {row["generation"] for row in rows} <= {complete.generation}
            statuses = {row["status"] for row in rows}
            assert statuses <= {"success", "error", "canceled"} | (
                {"expired", "gone", "missing"} if self.may_lose else set()
            )
            contents = tables.contents.dataset([partition]).to_table(columns=["url"])["url"].to_pylist()
            assert sorted(contents) == sorted({row["url"] for row in rows if row["content_length"] is not None})

    @invariant()
    def nobody_pays_for_more_than_was_submitted(self) -> None:
        for count in self.emulator.targets().values():
            assert count.charged <= count.submitted


def unfinished_of(tables: PartitionTables) -> dict[str, Any]:
    """The unfinished generation in the files, as the assets pass it to `begin`."""
    return {"unfinished": tables.unfinished_generation()}


@pytest.fixture
def walk(site: DemoSite) -> Callable[..., Counter[str]]:
    Walk.site = site
    Walk.done = Counter()

    def walk(examples: int, steps: int) -> Counter[str]:
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize="SCRAPEDO_WALK_RANDOM" not in os.environ,
                print_blob=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        print(dict(Walk.done.most_common()))
        return Walk.done

    return walk


def test_short_walks(walk: Callable[..., Counter[str]]) -> None:
    done = walk(examples=30, steps=15)
    assert done["collected"] >= 5
    assert done["submitted"] >= 5
    assert sum(amount for what, amount in done.items() if what.startswith("died")) >= 5


@pytest.mark.slow
def test_long_walks(walk: Callable[..., Counter[str]]) -> None:
    done = walk(examples=int(os.environ.get("SCRAPEDO_WALKS", "25")), steps=40)
    assert done["collected"] >= 20
    assert done["canceled"] >= 5
