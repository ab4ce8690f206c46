"""Interrupts of steps at the worst moments, in this process; deployment/test_termination.py has real runs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from scrapedo_dagster import ScrapeDoDataset, ScrapeDoResource, scrape_do_assets
from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.states import State

pytestmark = pytest.mark.slow


@pytest.fixture
def emulator(token: str) -> Iterator[Emulator]:
    """Slow enough that a job is seen before it ends."""
    with Emulator(token=token, speed=50) as emulator:
        yield emulator


Targets = Callable[[dg.AssetExecutionContext], list[str]]
When = Callable[[], object]
LINGER = {"targets": [{"kind": "linger"}]}


def dataset_of(targets: Targets) -> ScrapeDoDataset:
    return scrape_do_assets(name="shop")(targets)


@pytest.fixture
def pages(site: DemoSite) -> list[str]:
    return [f"{site.base_url}/2026-01-01/products/{number}" for number in range(1, 4)]


@pytest.fixture
def run(resources: dict[str, Any], instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Run all assets of a dataset in a job that retries its steps three times, at once."""

    def run(targets: Targets) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("scrape", op_retry_policy=dg.RetryPolicy(max_retries=3))
        defs = dg.Definitions(assets=dataset_of(targets).assets, jobs=[job], resources=resources)
        return defs.resolve_job_def("scrape").execute_in_process(instance=instance, raise_on_error=False)

    return run


@pytest.fixture
def ledger(instance: dg.DagsterInstance) -> Ledger:
    return Ledger(f"sqlite:///{Path(instance.root_directory) / 'scrapedo' / 'ledger.db'}")


@pytest.fixture
def interrupt_when(instance: dg.DagsterInstance) -> Iterator[Callable[..., None]]:
    """Interrupt this process as soon as a condition holds, after something was recorded about its run."""
    threads = []

    def interrupt_when(*conditions: When, recording: Callable[[dg.DagsterRun], object] = lambda _run: None) -> None:
        def wait_and_interrupt() -> None:
            for index, condition in enumerate(conditions):
                deadline = time.monotonic() + 20
                while not condition():
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.01)
                if index == 0:
                    recording(instance.get_runs()[0])
                os.kill(os.getpid(), signal.SIGINT)

        threads.append(threading.Thread(target=wait_and_interrupt))
        threads[-1].start()

    yield interrupt_when
    for thread in threads:
        thread.join()


def asked(emulator: Emulator, endpoint: str) -> Callable[[], bool]:
    return lambda: emulator.requests().get(endpoint, 0) > 0


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    return [str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure]


def retries(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.is_step_up_for_retry for event in result.all_events)


def test_terminate_while_targets_are_listed_submits_nothing_and_is_not_retried(
    run: Callable[..., dg.ExecuteInProcessResult], instance: dg.DagsterInstance, emulator: Emulator, pages: list[str]
) -> None:
    calls = []

    def targets(context: dg.AssetExecutionContext) -> list[str]:
        calls.append(1)
        instance.report_run_canceling(context.run)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        return pages

    result = run(targets)
    assert calls == [1]
    assert (emulator.jobs(), retries(result)) == ([], 0)
    assert "The run was terminated; 0 Scrape.do jobs were canceled" in failures(result)[0]
    assert instance.get_runs()[0].status == dg.DagsterRunStatus.CANCELED


def test_terminate_while_targets_are_listed_leaves_the_open_jobs_of_other_runs(
    run: Callable[..., dg.ExecuteInProcessResult],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    pages: list[str],
    resources: dict[str, Any],
) -> None:
    emulator.set_faults(LINGER)
    other = dg.materialize([dataset_of(lambda _context: pages).assets[0]], resources=resources, instance=instance)
    assert other.success

    def targets(context: dg.AssetExecutionContext) -> list[str]:
        instance.report_run_canceling(context.run)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        return pages

    run(targets)
    assert [job.canceled for job in emulator.jobs()] == [False]


def test_an_interrupt_that_nobody_requested_is_retried_and_continues_the_jobs(
    run: Callable[..., dg.ExecuteInProcessResult],
    interrupt_when: Callable[..., None],
    emulator: Emulator,
    pages: list[str],
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 100}]})  # two seconds, at this speed
    interrupt_when(asked(emulator, "get_job"))
    result = run(lambda _context: pages)
    assert result.success
    assert retries(result) == 1
    assert [job.canceled for job in emulator.jobs()] == [False]


@pytest.mark.parametrize("asked_to_end", [True, False])
def test_a_failed_run_keeps_its_jobs_unless_it_was_asked_to_end(
    run: Callable[..., dg.ExecuteInProcessResult],
    interrupt_when: Callable[..., None],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    pages: list[str],
    asked_to_end: bool,
) -> None:
    """Dagster marks as failed both what ran too long, after asking it to end, and what it believes to have crashed."""

    def record(dagster_run: dg.DagsterRun) -> None:
        if asked_to_end:
            instance.report_run_canceling(dagster_run)
        instance.report_run_failed(dagster_run)

    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 100}]})
    interrupt_when(asked(emulator, "get_job"), recording=record)
    run(lambda _context: pages)
    assert [job.canceled for job in emulator.jobs()] == [asked_to_end]


def test_a_second_interrupt_ends_the_waiting_and_is_not_retried(
    run: Callable[..., dg.ExecuteInProcessResult],
    interrupt_when: Callable[..., None],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    pages: list[str],
) -> None:
    emulator.set_faults({**LINGER, "calls": [{"endpoint": "cancel_job", "kind": "hang"}]})
    interrupt_when(asked(emulator, "get_job"), asked(emulator, "cancel_job"), recording=instance.report_run_canceling)
    began = time.monotonic()
    result = run(lambda _context: pages)
    assert time.monotonic() - began < 4.5
    assert retries(result) == 0
    assert "interrupted again" in failures(result)[0]
    assert "scrapedo-dagster jobs cancel" in failures(result)[0]


def test_a_status_that_cannot_be_read_keeps_the_jobs(
    run: Callable[..., dg.ExecuteInProcessResult],
    interrupt_when: Callable[..., None],
    emulator: Emulator,
    pages: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 100}]})

    def break_storage(_run: dg.DagsterRun) -> None:
        def broken(*_: object) -> None:
            monkeypatch.undo()
            raise OSError("the database is away")

        monkeypatch.setattr(dg.DagsterInstance, "get_run_by_id", broken)

    interrupt_when(asked(emulator, "get_job"), recording=break_storage)
    result = run(lambda _context: pages)
    assert [job.canceled for job in emulator.jobs()] == [False]
    assert "the database is away" not in "".join(failures(result))


def test_terminate_ends_in_time_while_a_submission_hangs_and_reports_that_it_may_continue(
    run: Callable[..., dg.ExecuteInProcessResult],
    interrupt_when: Callable[..., None],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    ledger: Ledger,
    pages: list[str],
) -> None:
    """The longest that can happen: the submission has its grace, and then nothing can be reconciled or canceled."""
    hangs = [{"endpoint": endpoint, "kind": "hang"} for endpoint in ("create_job", "list_jobs", "cancel_job")]
    emulator.set_faults({"calls": hangs})
    terminated = []

    def terminate(dagster_run: dg.DagsterRun) -> None:
        terminated.append(time.monotonic())
        instance.report_run_canceling(dagster_run)

    interrupt_when(asked(emulator, "create_job"), recording=terminate)
    result = run(lambda _context: pages)
    took = time.monotonic() - terminated[0]
    print(f"run ended after {took:.2f} s")
    assert took < 10
    assert retries(result) == 0
    [submission] = ledger.submissions.find()
    assert submission.state == State.UNCERTAIN
    assert f"submission {submission.id} (shop, job unknown)" in failures(result)[0]


def test_a_batch_interrupted_between_two_attempts_is_not_reconciled(
    run: Callable[..., dg.ExecuteInProcessResult],
    interrupt_when: Callable[..., None],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    ledger: Ledger,
    pages: list[str],
) -> None:
    """It is provably no job: continuing it need not wait for the list of jobs."""
    busy = {"endpoint": "create_job", "kind": "status", "status": 429, "retry_after": 60}
    emulator.set_faults({"calls": [busy]})
    states = []

    def record(dagster_run: dg.DagsterRun) -> None:
        instance.report_run_canceling(dagster_run)
        states.extend(each.state for each in ledger.submissions.find())

    began = time.monotonic()
    interrupt_when(asked(emulator, "create_job"), recording=record)
    run(lambda _context: pages)
    assert time.monotonic() - began < 10
    assert states == [State.SUBMITTING]
    [submission] = ledger.submissions.find()
    assert submission.state == State.CANCELED
    assert submission.job_id is None
    assert emulator.requests().get("list_jobs", 0) == 0  # there was nothing to reconcile
    assert emulator.requests()["create_job"] == 1


def test_collecting_runs_outside_the_main_thread_which_gets_the_interrupts(
    run: Callable[..., dg.ExecuteInProcessResult],
    pages: list[str],
    resources: dict[str, Any],
    service_url: str,
    token: str,
) -> None:
    threads: list[threading.Thread] = []

    class ObservedResource(ScrapeDoResource):
        def async_client(self) -> AsyncScrapeDoAsyncAPIClient:
            threads.append(threading.current_thread())
            return super().async_client()

    resources["scrape_do"] = ObservedResource(api_token=token, base_url=service_url)
    assert run(lambda _context: pages).success
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize("automatic", [True, False])
def test_an_automatic_retry_of_a_terminated_run_submits_nothing_and_a_persons_does(
    resources: dict[str, Any], instance: dg.DagsterInstance, emulator: Emulator, pages: list[str], automatic: bool
) -> None:
    """A run that is killed before it could handle Terminate is failed for Dagster, which may retry failed runs."""
    terminated = instance.create_run_for_job(dg.JobDefinition(graph_def=dg.GraphDefinition(name="any")))
    instance.report_run_canceling(terminated)
    instance.report_run_failed(terminated)
    tags = {"dagster/parent_run_id": terminated.run_id, "dagster/root_run_id": terminated.run_id}
    result = dg.materialize(
        dataset_of(lambda _context: pages).assets,
        resources=resources,
        instance=instance,
        raise_on_error=False,
        tags={**tags, **({"dagster/retry_number": "1"} if automatic else {})},
    )
    assert result.success == (not automatic)
    assert len(emulator.jobs()) == (not automatic)
    if automatic:
        assert "was terminated, and this is its automatic retry" in failures(result)[0]
