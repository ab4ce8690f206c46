"""A person's Terminate cancels the remote jobs, soon and for good; an eviction or a crash keeps them.

Real runs: a webserver launches each in a process of its own, and terminates it as the button in the UI does.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil
import pytest
from typing_extensions import Self

from scrapedo_dagster.emulator import Emulator, JobRecord
from scrapedo_dagster.engine.ledger import Ledger, Submission
from scrapedo_dagster.engine.states import State

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKEN = "canary-7f3a9c"
TERMINATED_WITHIN = 10.0
EXECUTORS = ("in_process", "multiprocess")
FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}

DAGSTER_YAML = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
TERMINATE = "mutation Terminate($run: String!) { terminateRun(runId: $run) { __typename } }"


def eventually(condition: Callable[[], Any], what: str, *, within: float = 60.0) -> Any:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {within} s in vain for {what}")


class GatedSite:
    """A site whose pages of a day wait until the gate of the day is opened: their jobs go on until then."""

    def __enter__(self) -> Self:
        gates = self.gates = {}

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gates.setdefault(self.path.split("/")[1], threading.Event()).wait(120)
                with suppress(OSError):  # nobody waits for the page any more
                    self.send_response(200)
                    self.send_header("Content-Length", "4")
                    self.end_headers()
                    self.wfile.write(b"page")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self.gates.values():
            gate.set()
        self.server.shutdown()
        self.server.server_close()

    def open(self, day: str) -> None:
        self.gates.setdefault(day, threading.Event()).set()


@dataclass
class Deployment:
    """A webserver with the code location, and what its runs talk to."""

    url: str
    instance: dg.DagsterInstance
    ledger: Ledger
    emulator: Emulator
    site: GatedSite

    def launch(self, job: str, day: str) -> str:
        selector = {"repositoryLocationName": "shop", "repositoryName": "__repository__", "jobName": job}
        tags = [{"key": "dagster/partition", "value": day}]
        answer = self._ask(LAUNCH, params={"selector": selector, "executionMetadata": {"tags": tags}})
        return str(answer["launchRun"]["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        assert self._ask(TERMINATE, run=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def jobs(self, day: str) -> list[JobRecord]:
        return [job for job in self.emulator.jobs() if f"/{day}/" in job.request["Targets"][0]]

    def submissions(self, day: str) -> list[Submission]:
        return [each for each in self.ledger.find() if each.scope.partition == day]

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def end_of(self, run_id: str) -> dg.DagsterRunStatus:
        eventually(lambda: self.status(run_id) in FINISHED, "the end of the run")
        return self.status(run_id)

    def events(self, run_id: str, of_type: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        return [entry.dagster_event for entry in self.instance.all_logs(run_id, of_type=of_type)]

    def failure(self, run_id: str) -> str:
        [event] = self.events(run_id, dg.DagsterEventType.STEP_FAILURE)
        return str(event.step_failure_data.error.message)

    def pid_of(self, run_id: str) -> int:
        """Of the process of the run."""
        messages = [entry.message for entry in self.instance.all_logs(run_id)]
        [started] = [message for message in messages if message.startswith("Started process for run (pid: ")]
        return int(started.removeprefix("Started process for run (pid: ").rstrip(")."))

    def pid_of_step(self, run_id: str) -> int:
        """Of the process of the only step that runs now, in the multiprocess executor."""
        children = psutil.Process(self.pid_of(run_id)).children()
        [step] = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        return step.pid


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    workspace = home / "workspace.yaml"
    definitions = HERE / "definitions_to_terminate.py"
    workspace.write_text(f"load_from: [{{python_file: {{relative_path: {definitions}, location_name: shop}}}}]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with GatedSite() as site, Emulator(token=TOKEN, speed=50, plan="advanced") as emulator:
        environment = os.environ | {
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "SCRAPE_DO_API_KEY": TOKEN,
            "SCRAPE_DO_BASE_URL": emulator.base_url,
            "SITE": site.url,
            "DATA": str(home / "data"),
        }
        command = [sys.executable, "-m", "dagster_webserver", "-w", str(workspace), "-p", str(port)]
        with (home / "webserver.log").open("wb") as log:
            webserver = subprocess.Popen(
                command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            with dg.DagsterInstance.from_config(str(home)) as instance:
                ledger = Ledger(f"sqlite:///{home}/scrapedo/ledger.db")
                found = Deployment(url, instance, ledger, emulator, site)
                eventually(lambda: _answers(url), "the webserver")
                yield found
                ledger.close()
        finally:
            family = [webserver, *psutil.Process(webserver.pid).children(recursive=True)]
            webserver.send_signal(signal.SIGINT)
            try:
                webserver.wait(15)
            except subprocess.TimeoutExpired:
                webserver.kill()
                webserver.wait()
            for process in family[1:]:
                if process.is_running():
                    process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=5).is_success
    except httpx.TransportError:
        return False


_days = itertools.count(1)


@pytest.fixture
def day() -> str:
    return f"2026-01-{next(_days):02}"


@pytest.fixture(autouse=True)
def _calm(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "deployment" in request.fixturenames:
        request.getfixturevalue("deployment").emulator.set_faults({})


def launch_until_it_waits(deployment: Deployment, job: str, day: str) -> str:
    """Launch a run, and return its id once it has asked after its job."""
    before = deployment.emulator.requests().get("get_job", 0)
    run_id = deployment.launch(job, day)
    eventually(lambda: deployment.emulator.requests().get("get_job", 0) > before, "the run to ask after its job")
    assert [job.status for job in deployment.jobs(day)] == ["pending"]
    return run_id


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
    run_id = launch_until_it_waits(deployment, f"{executor}_with_retries", day)
    terminate_and_measure(deployment, run_id, day)
    assert "1 Scrape.do jobs were canceled" in deployment.failure(run_id)
    assert [each.state for each in deployment.submissions(day)] == [State.CANCELED]
    assert deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert len(deployment.jobs(day)) == 1


def test_terminate_while_submitting_waits_for_the_answer_and_cancels_that_job(deployment: Deployment, day: str) -> None:
    slow = {"endpoint": "create_job", "kind": "latency", "seconds": 2.0, "match": f"*/{day}/*"}
    deployment.emulator.set_faults({"calls": [slow]})
    run_id = deployment.launch("in_process_with_retries", day)
    eventually(lambda: [each.state for each in deployment.submissions(day)] == [State.SUBMITTING], "the claim")
    assert deployment.jobs(day) == []
    terminate_and_measure(deployment, run_id, day)
    assert [each.state for each in deployment.submissions(day)] == [State.CANCELED]
    assert len(deployment.jobs(day)) == 1


def test_terminate_ends_also_while_the_service_hangs_and_says_what_goes_on(deployment: Deployment, day: str) -> None:
    run_id = launch_until_it_waits(deployment, "multiprocess_with_retries", day)
    deployment.emulator.set_faults({"calls": [{"kind": "hang"}]})
    began = time.monotonic()
    deployment.terminate(run_id)
    eventually(lambda: deployment.status(run_id) in FINISHED, "the end of the run", within=TERMINATED_WITHIN)
    print(f"run ended after {time.monotonic() - began:.2f} s")
    assert deployment.status(run_id) == dg.DagsterRunStatus.CANCELED
    [submission] = deployment.submissions(day)
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
    run_id = launch_until_it_waits(deployment, executor, day)
    os.kill(deployment.pid_of(run_id), signal.SIGTERM)
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.FAILURE
    [job] = deployment.jobs(day)
    assert not job.canceled
    deployment.site.open(day)
    assert deployment.end_of(deployment.launch("in_process", day)) == dg.DagsterRunStatus.SUCCESS
    assert len(deployment.jobs(day)) == 1
    assert [(each.state, each.succeeded) for each in deployment.submissions(day)] == [(State.COLLECTED, 3)]


def test_a_run_evicted_while_it_submits_records_the_job_for_the_next(deployment: Deployment, day: str) -> None:
    slow = {"endpoint": "create_job", "kind": "latency", "seconds": 2.0, "match": f"*/{day}/*"}
    deployment.emulator.set_faults({"calls": [slow]})
    run_id = deployment.launch("in_process", day)
    eventually(lambda: [each.state for each in deployment.submissions(day)] == [State.SUBMITTING], "the claim")
    os.kill(deployment.pid_of(run_id), signal.SIGTERM)
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.FAILURE
    [submission] = deployment.submissions(day)
    [job] = deployment.jobs(day)
    assert (submission.state, submission.job_id) == (State.SUBMITTED, job.job_id)
    assert not job.canceled


def test_a_killed_step_keeps_its_jobs_and_its_retry_continues_them(deployment: Deployment, day: str) -> None:
    run_id = launch_until_it_waits(deployment, "multiprocess_with_retries", day)
    os.kill(deployment.pid_of_step(run_id), signal.SIGKILL)
    eventually(lambda: deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY), "the crash to be noticed")
    deployment.site.open(day)
    assert deployment.end_of(run_id) == dg.DagsterRunStatus.SUCCESS
    [job] = deployment.jobs(day)
    assert not job.canceled
    assert [each.state for each in deployment.submissions(day)] == [State.COLLECTED]


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
    assert [each.state for each in deployment.submissions(day)] == [State.FINISHED]
    deployment.emulator.set_faults({})
    assert deployment.end_of(deployment.launch("in_process", day)) == dg.DagsterRunStatus.SUCCESS
    assert len(deployment.jobs(day)) == 1
