"""A person's Terminate cancels the remote jobs, soon and for good; an eviction or a crash keeps them.

Real runs: a webserver launches each in a process of its own, and terminates it as the button in the UI does.
"""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from scrapedo_dagster.engine.ledger.states import State
from tests.deployment.serving import FINISHED, Deployment, deployed, eventually

pytestmark = pytest.mark.slow

TERMINATED_WITHIN = 10.0
EXECUTORS = ("in_process", "multiprocess")

DAGSTER_YAML = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    definitions = Path(__file__).parent / "definitions_to_terminate.py"
    with deployed(tmp_path_factory.mktemp("home"), definitions, DAGSTER_YAML) as deployment:
        yield deployment


_days = itertools.count(1)


@pytest.fixture
def day() -> str:
    return f"2026-01-{next(_days):02}"


@pytest.fixture(autouse=True)
def _calm(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "deployment" in request.fixturenames:
        request.getfixturevalue("deployment").emulator.set_faults({})


def terminate_and_measure(deployment: Deployment, run_id: str, day: str) -> None:
    """Terminate the run, and see its jobs canceled and its end in time."""
    began = time.monotonic()
    deployment.terminate(run_id)
    eventually(
        lambda: all(job.canceled for job in deployment.jobs(day)) and deployment.jobs(day),
        "the jobs to be canceled",
        within=TERMINATED_WITHIN,
    )
    canceled = time.monotonic() - began
    eventually(lambda: deployment.status(run_id) in FINISHED, "the end of the run", within=TERMINATED_WITHIN)
    print(f"jobs canceled after {canceled:.2f} s, run ended after {time.monotonic() - began:.2f} s")
    assert deployment.status(run_id) == dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize("executor", EXECUTORS)
def test_terminate_while_waiting_cancels_the_jobs_for_good(deployment: Deployment, day: str, executor: str) -> None:
    run_id = deployment.launch_until_it_waits(f"{executor}_with_retries", day)
    terminate_and_measure(deployment, run_id, day)
    assert "1 Scrape.do jobs were canceled" in deployment.failure(run_id)
    assert [each.state for each in deployment.submissions_with_targets(day)] == [State.CANCELED]
    assert deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert len(deployment.jobs(day)) == 1


def test_terminate_while_submitting_waits_for_the_answer_and_cancels_that_job(deployment: Deployment, day: str) -> None:
    slow = {"endpoint": "create_job", "kind": "latency", "seconds": 2.0, "match": f"*/{day}/*"}
    deployment.emulator.set_faults({"calls": [slow]})
    run_id = deployment.launch("in_process_with_retries", day)
    eventually(
        lambda: [each.state for each in deployment.submissions_with_targets(day)] == [State.SUBMITTING], "the claim"
    )
    assert deployment.jobs(day) == []
    terminate_and_measure(deployment, run_id, day)
    assert [each.state for each in deployment.submissions_with_targets(day)] == [State.CANCELED]
    assert len(deployment.jobs(day)) == 1


def test_terminate_ends_also_while_the_service_hangs_and_says_what_goes_on(deployment: Deployment, day: str) -> None:
    run_id = deployment.launch_until_it_waits("multiprocess_with_retries", day)
    deployment.emulator.set_faults({"calls": [{"kind": "hang"}]})
    began = time.monotonic()
    deployment.terminate(run_id)
    eventually(lambda: deployment.status(run_id) in FINISHED, "the end of the run", within=TERMINATED_WITHIN)
    print(f"run ended after {time.monotonic() - began:.2f} s")
    assert deployment.status(run_id) == dg.DagsterRunStatus.CANCELED
    [submission] = deployment.submissions_with_targets(day)
    assert submission.state == State.SUBMITTED
    told = deployment.failure(run_id)
    assert "0 Scrape.do jobs were canceled" in told
    assert f"submission {submission.id} " in told
    assert str(submission.job_id) in told
    assert "scrapedo-dagster jobs cancel" in told


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_evicted_run_keeps_its_jobs_and_the_next_run_collects_them(
    deployment: Deployment, day: str, executor: str
) -> None:
    run_id = deployment.launch_until_it_waits(executor, day)
    os.kill(deployment.pid_of(run_id), signal.SIGTERM)
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.FAILURE
    [job] = deployment.jobs(day)
    assert not job.canceled
    deployment.site.open(day)
    assert deployment.end_of(deployment.launch("in_process", day)) == dg.DagsterRunStatus.SUCCESS
    assert len(deployment.jobs(day)) == 1
    assert [(each.state, each.succeeded) for each in deployment.submissions_with_targets(day)] == [(State.COLLECTED, 3)]


def test_a_run_evicted_while_it_submits_records_the_job_for_the_next(deployment: Deployment, day: str) -> None:
    slow = {"endpoint": "create_job", "kind": "latency", "seconds": 2.0, "match": f"*/{day}/*"}
    deployment.emulator.set_faults({"calls": [slow]})
    run_id = deployment.launch("in_process", day)
    eventually(
        lambda: [each.state for each in deployment.submissions_with_targets(day)] == [State.SUBMITTING], "the claim"
    )
    os.kill(deployment.pid_of(run_id), signal.SIGTERM)
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.FAILURE
    [submission] = deployment.submissions_with_targets(day)
    [job] = deployment.jobs(day)
    assert (submission.state, submission.job_id) == (State.SUBMITTED, job.job_id)
    assert not job.canceled


def test_a_killed_step_keeps_its_jobs_and_its_retry_continues_them(deployment: Deployment, day: str) -> None:
    run_id = deployment.launch_until_it_waits("multiprocess_with_retries", day)
    os.kill(deployment.pid_of_step(run_id), signal.SIGKILL)
    eventually(lambda: deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY), "the crash to be noticed")
    deployment.site.open(day)
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.SUCCESS
    [job] = deployment.jobs(day)
    assert not job.canceled
    assert [each.state for each in deployment.submissions_with_targets(day)] == [State.COLLECTED]


def test_terminate_while_collecting_keeps_what_is_paid_and_done(deployment: Deployment, day: str) -> None:
    """The job has ended: there is nothing to cancel, and its results are still there for whoever wants them."""
    deployment.site.open(day)
    deployment.emulator.set_faults({"calls": [{"endpoint": "get_task", "kind": "hang"}]})
    before = deployment.emulator.requests().get("get_task", 0)
    run_id = deployment.launch("in_process_with_retries", day)
    eventually(lambda: deployment.emulator.requests().get("get_task", 0) >= before + 3, "the results to be fetched")
    began = time.monotonic()
    deployment.terminate(run_id)
    eventually(lambda: deployment.status(run_id) in FINISHED, "the end of the run", within=TERMINATED_WITHIN)
    print(f"run ended after {time.monotonic() - began:.2f} s")
    assert deployment.status(run_id) == dg.DagsterRunStatus.CANCELED
    assert deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert [each.state for each in deployment.submissions_with_targets(day)] == [State.FINISHED]
    deployment.emulator.set_faults({})
    assert deployment.end_of(deployment.launch("in_process", day)) == dg.DagsterRunStatus.SUCCESS
    assert len(deployment.jobs(day)) == 1
