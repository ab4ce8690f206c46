"""A canceled generation is resumed: nothing that had ended is paid for again, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any

import pytest

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import ServerError
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.api.responses import JobDetails
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.errors import NotEnoughCreditsError, NothingSubmittedError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import RETENTION, PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.cancel import cancel_all, open_submissions
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.submission.settings import Limits
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.collection import wait_and_collect

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]
Canceled = Callable[..., list[SubmissionWithTargets]]

DONE, SLOW = (1, 2, 3), (4, 5)


@pytest.fixture
def entries(urls: Urls) -> Any:
    return validated_entries([*urls(*DONE, *SLOW), "nonsense", *urls(5)], "skip")


@pytest.fixture
def cancel(ledger: Ledger, client: ScrapeDoAsyncAPIClient, ref: PartitionRef) -> Callable[[], None]:
    def cancel() -> None:
        cancel_all(ledger, client, open_submissions(ledger, [ref]), reason="a person", seconds=20)

    return cancel


@pytest.fixture
def canceled(
    submitter: MakeSubmitter,
    emulator: Emulator,
    entries: Any,
    cancel: Callable[[], None],
    eventually: Callable[..., Any],
) -> Canceled:
    """A generation whose jobs are canceled when the targets of DONE have ended, and those of SLOW have not."""

    def canceled(**settings: Any) -> list[SubmissionWithTargets]:
        emulator.set_faults({"targets": [{"match": f"*products/{n}", "kind": "linger"} for n in SLOW]})
        worker = submitter(**settings)
        worker.submit(worker.begin(entries).number)
        eventually(lambda: sum(count.charged for count in emulator.targets().values()) == len(DONE))
        cancel()
        emulator.set_faults({})
        return worker.ledger.submissions.with_targets(worker.ref, 1)

    return canceled


@pytest.fixture
def resubmit(
    submitter: MakeSubmitter,
    tables: PartitionTables,
    async_client: Callable[..., AsyncScrapeDoAsyncAPIClient],
    entries: Any,
) -> Callable[..., int]:
    """Submit again and collect; the generation."""

    def resubmit(**settings: Any) -> int:
        worker = submitter(**settings)
        generation = worker.begin(entries).number
        worker.submit(generation)
        wait_and_collect(PartitionCollector(worker, async_client, tables), generation)
        return generation

    return resubmit


def times(emulator: Emulator, urls: Urls) -> dict[int, int]:
    """How often each target was submitted."""
    counts = emulator.targets()
    return {number: counts[url].submitted for number in (*DONE, *SLOW) for url in urls(number)}


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_what_had_ended_is_kept_and_only_the_rest_is_submitted_again(
    canceled: Canceled, resubmit: Callable[..., int], emulator: Emulator, urls: Urls,
    tables: PartitionTables, entries: Any, batch_size: int,
) -> None:  # fmt: skip
    before = canceled(batch_size=batch_size)
    assert State.CANCELED in {each.state for each in before}
    assert resubmit(batch_size=batch_size) == 1
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 2)}
    assert {count.charged for count in emulator.targets().values()} == {1}
    rows = sorted(tables.tasks.dataset(["mon"]).to_table().to_pylist(), key=lambda row: int(row["position"]))
    assert [(row["position"], row["url"]) for row in rows] == [(each.position, each.url) for each in entries]
    assert [row["status"] for row in rows] == [*["success"] * 5, "rejected", "success"]
    contents = tables.contents.dataset(["mon"]).to_table(columns=["url"])["url"].to_pylist()
    assert sorted(contents) == urls(*DONE, *SLOW)


def test_what_was_never_sent_is_sent_once(
    submitter: MakeSubmitter, cancel: Callable[[], None], resubmit: Callable[..., int], emulator: Emulator, urls: Urls,
    entries: Any,
) -> None:  # fmt: skip
    submitter().begin(entries)
    cancel()
    assert resubmit() == 1
    assert set(times(emulator, urls).values()) == {1}


def test_a_canceled_batch_whose_job_had_ended_is_not_submitted_again(
    submitter: MakeSubmitter, resubmit: Callable[..., int], emulator: Emulator, ledger: Ledger, urls: Urls,
    entries: Any, ref: PartitionRef, eventually: Callable[..., Any],
) -> None:  # fmt: skip
    """The ledger says canceled, and the service was faster."""
    worker = submitter()
    [submission] = worker.submit(worker.begin(entries).number)
    eventually(lambda: emulator.jobs()[0].status == "success")
    ledger.submissions.mark_canceled(submission, "a person")
    resubmit()
    assert set(times(emulator, urls).values()) == {1}
    assert [each.batch for each in ledger.submissions.with_targets(ref, 1)] == [0]


def test_a_generation_canceled_twice_is_still_completed(
    canceled: Canceled, submitter: MakeSubmitter, emulator: Emulator, urls: Urls, entries: Any,
    cancel: Callable[[], None], resubmit: Callable[..., int], tables: PartitionTables,
) -> None:  # fmt: skip
    canceled()
    emulator.set_faults({"targets": [{"match": "*products/*", "kind": "linger"}]})
    again = submitter()
    again.submit(again.begin(entries).number)
    cancel()
    emulator.set_faults({})
    resubmit()
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 3)}
    assert tables.tasks.dataset(["mon"]).count_rows() == len(entries)


def test_with_other_options_a_new_generation_begins(
    canceled: Canceled, submitter: MakeSubmitter, entries: Any, urls: Urls
) -> None:
    canceled()
    assert submitter(options=ScrapeOptions(device="mobile")).begin(entries).number == 2
    line = submitter.lines[-1]  # type: ignore[attr-defined]
    assert "generation 1 was canceled and is not continued: it has other options" in line


def test_with_other_targets_a_new_generation_begins(canceled: Canceled, submitter: MakeSubmitter, urls: Urls) -> None:
    canceled()
    assert submitter().begin(validated_entries(urls(1, 2), "raise")).number == 2
    line = submitter.lines[-1]  # type: ignore[attr-defined]
    assert "not continued: it has other targets than the new list" in line


def test_after_three_days_all_targets_are_submitted_again(
    canceled: Canceled, submitter: MakeSubmitter, ledger: Any, entries: Any
) -> None:
    canceled()
    ledger.ahead = RETENTION
    assert submitter().begin(entries).number == 2
    assert "keeps results for three days" in submitter.lines[-1]  # type: ignore[attr-defined]


def test_without_reuse_open_jobs_a_new_generation_begins(
    canceled: Canceled, submitter: MakeSubmitter, entries: Any
) -> None:
    canceled()
    assert submitter().begin(entries, reuse_open_jobs=False).number == 2


def test_a_job_that_the_service_deleted_is_submitted_again(
    canceled: Canceled, resubmit: Callable[..., int], emulator: Emulator, urls: Urls
) -> None:
    canceled()
    emulator.advance(RETENTION + timedelta(hours=1))
    resubmit()
    assert set(times(emulator, urls).values()) == {2}


def test_the_rest_is_guarded_like_a_new_generation(
    canceled: Canceled,
    submitter: MakeSubmitter,
    ledger: Ledger,
    entries: Any,
    ref: PartitionRef,
) -> None:
    canceled()
    poor = submitter(limits=Limits(max_credits=len(SLOW) - 1))
    with pytest.raises(NotEnoughCreditsError, match="shop, partition 'mon': 2 targets cost about 2 credits"):
        poor.begin(entries)
    assert {each.state for each in ledger.submissions.with_targets(ref, 1)} == {State.CANCELED}
    assert submitter(limits=Limits(max_credits=len(SLOW))).begin(entries).continued


class Lagging:
    """A client of a service that reports only later that a canceled job has ended."""

    def __init__(self, client: ScrapeDoAsyncAPIClient, times: float) -> None:
        self._client = client
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_job(self, job_id: str) -> JobDetails:
        self.times -= 1
        job = self._client.get_job(job_id)
        if self.times < 0:
            return job
        tasks = [
            task.model_copy(update={"status": "pending"} if task.status == "canceled" else {}) for task in job.tasks
        ]
        return job.model_copy(update={"status": "pending", "tasks": tuple(tasks)})


def test_a_status_that_lags_is_waited_for(
    canceled: Canceled, submitter: MakeSubmitter, client: ScrapeDoAsyncAPIClient, entries: Any,
    emulator: Emulator, urls: Urls, claim_policy: ClaimPolicy,
) -> None:  # fmt: skip
    canceled()
    lagging = Lagging(client, times=3)
    slow = ClaimPolicy(lease=claim_policy.lease, absent_after=timedelta(minutes=3), pause=0.01)
    worker = submitter(client=lagging, claim_policy=slow)
    worker.submit(worker.begin(entries).number)
    assert lagging.times < 0
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 2)}


def test_a_status_that_never_comes_is_not_waited_for_forever(
    canceled: Canceled, submitter: MakeSubmitter, client: ScrapeDoAsyncAPIClient, entries: Any,
    emulator: Emulator, urls: Urls,
) -> None:  # fmt: skip
    canceled()
    worker = submitter(client=Lagging(client, times=float("inf")))  # for which the claim policy does not wait
    worker.submit(worker.begin(entries).number)
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 2)}


def test_while_the_service_does_not_answer_it_stays_canceled(
    canceled: Canceled, submitter: MakeSubmitter, emulator: Emulator, ledger: Ledger,
    entries: Any, ref: PartitionRef, resubmit: Callable[..., int], urls: Urls,
) -> None:  # fmt: skip
    canceled()
    emulator.set_faults({"calls": [{"endpoint": "get_job", "kind": "status", "status": 500}]})
    with pytest.raises(ServerError):
        submitter().begin(entries)
    assert {each.state for each in ledger.submissions.with_targets(ref, 1)} == {State.CANCELED}
    emulator.set_faults({})
    resubmit()
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 2)}


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> Iterator[None]:
    """Die before or after the transaction that resumes the batch with this number."""
    resumed, calls = ledger.submissions.resume, iter(range(100))

    def dying(submission: SubmissionWithTargets, again: Any) -> SubmissionWithTargets:
        dies = next(calls) == number
        if dies and not after:
            raise Killed
        moved = resumed(submission, again)
        if dies:
            raise Killed
        return moved

    with monkeypatch.context() as patch:
        patch.setattr(ledger.submissions, "resume", dying)
        yield


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_dies_while_it_resumes_pays_nothing_twice(
    canceled: Canceled, submitter: MakeSubmitter, ledger: Ledger, entries: Any, urls: Urls,
    resubmit: Callable[..., int], emulator: Emulator, tables: PartitionTables, monkeypatch: pytest.MonkeyPatch,
    number: int, after: bool,
) -> None:  # fmt: skip
    canceled(batch_size=4)  # two jobs, of which neither has ended
    with killed_at(ledger, monkeypatch, number, after=after), pytest.raises(Killed):
        submitter().begin(entries)
    resubmit()
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 2)}
    assert tables.tasks.dataset(["mon"]).count_rows() == len(entries)


def test_until_all_batches_are_resumed_no_other_worker_touches_them(
    canceled: Canceled, submitter: MakeSubmitter, ledger: Ledger, entries: Any, account: str,
    tables: PartitionTables, async_client: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    canceled(batch_size=4)
    with killed_at(ledger, monkeypatch, 0, after=True), pytest.raises(Killed):
        submitter(run_id="another run").begin(entries)
    assert ledger.generations.unconfirmed(account, ["shop"]) == {}
    with pytest.raises(NothingSubmittedError, match="Materialize its jobs again to continue"):
        wait_and_collect(PartitionCollector(submitter(), async_client, tables), 1, job_timeout=timedelta(0))
    submitter(run_id="another run").begin(entries)
    [batches] = ledger.generations.unconfirmed(account, ["shop"]).values()
    # Else the sensor would cancel it once more, as what a terminated run has left.
    assert {each.run_id for each in batches} == {"another run"}


def test_two_workers_that_resume_submit_the_rest_once(
    canceled: Canceled, submitter: MakeSubmitter, emulator: Emulator, entries: Any, urls: Urls,
    resubmit: Callable[..., int],
) -> None:  # fmt: skip
    canceled(batch_size=4)
    start = Barrier(2)

    def work() -> None:
        worker = submitter()
        start.wait()
        worker.submit(worker.begin(entries).number)

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    resubmit()
    assert times(emulator, urls) == {**dict.fromkeys(DONE, 1), **dict.fromkeys(SLOW, 2)}
