"""A Dagster deployment in processes of its own, against an emulator and a site in the test's process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import dagster as dg
import httpx
import psutil
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus
from typing_extensions import Self

from scrapedo_dagster.emulator import Emulator, JobRecord
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets

TOKEN = "canary-7f3a9c"
FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}

_ROOT = Path(__file__).parents[2]
_LOCATION = "shop"
_REPOSITORY = {"repositoryLocationName": _LOCATION, "repositoryName": "__repository__"}

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
_BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
_PARTITIONS = """
query Partitions($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    ... on AssetNode {
      assetPartitionStatuses {
        ... on DefaultPartitionStatuses {
          materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions
        }
      }
    }
  }
}
"""
_TERMINATE = "mutation Terminate($run: String!) { terminateRun(runId: $run) { __typename } }"


def eventually(condition: Callable[[], Any], what: str, *, within: float = 60.0) -> Any:
    """Wait for something true, and return it."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {within} s in vain for {what}")


class GatedSite:
    """A site whose pages below `/{gate}/` wait until that gate is opened: their jobs go on until then."""

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

    def open(self, gate: str) -> None:
        self.gates.setdefault(gate, threading.Event()).set()


@dataclass
class Deployment:
    """A webserver with the code location, and what its runs talk to."""

    url: str
    instance: dg.DagsterInstance
    ledger: Ledger
    emulator: Emulator
    site: GatedSite
    data: Path

    def launch(self, job: str, first: str, last: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Launch a job of one partition, or of all from the first to the last. Returns the run's id."""
        of_range = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        all_tags = {**(of_range if last else {"dagster/partition": first}), **(tags or {})}
        metadata = {"tags": [{"key": key, "value": value} for key, value in all_tags.items()]}
        answer = self.ask(_LAUNCH, params={"selector": _REPOSITORY | {"jobName": job}, "executionMetadata": metadata})
        return str(answer["launchRun"]["run"]["runId"])

    def launch_backfill(self, partitions: Sequence[str], *assets: Sequence[str]) -> str:
        """Start a backfill, as the UI does. Returns its id."""
        selection = [{"path": asset} for asset in assets]
        answer = self.ask(_BACKFILL, params={"assetSelection": selection, "partitionNames": partitions})
        return str(answer["launchPartitionBackfill"]["backfillId"])

    def end_of_backfill(self, backfill_id: str) -> BulkActionStatus:
        def ended() -> BulkActionStatus | None:
            backfill = self.instance.get_backfill(backfill_id)
            return backfill.status if backfill and backfill.status in BULK_ACTION_TERMINAL_STATUSES else None

        return cast("BulkActionStatus", eventually(ended, "the end of the backfill", within=120))

    def partitions(self, *asset: str) -> dict[str, set[str]]:
        """The partitions that Dagster shows as materialized, failed, unmaterialized and materializing."""
        found = self.ask(_PARTITIONS, asset={"path": asset})["assetNodeOrError"]["assetPartitionStatuses"]
        return {name.removesuffix("Partitions"): set(keys) for name, keys in found.items()}

    def terminate(self, run_id: str) -> None:
        assert self.ask(_TERMINATE, run=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def jobs(self, gate: str) -> list[JobRecord]:
        return [job for job in self.emulator.jobs() if f"/{gate}/" in job.request["Targets"][0]]

    def submissions_with_targets(self, partition: str) -> list[SubmissionWithTargets]:
        return [each for each in self.ledger.submissions.find() if each.ref.partition == partition]

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

    def launch_until_it_waits(self, job: str, partition: str, tags: Mapping[str, str] | None = None) -> str:
        """Launch a run of all three assets, and return its id once its second step has asked after its job."""
        before = self.emulator.requests().get("get_job", 0)
        run_id = self.launch(job, partition, tags=tags)
        eventually(lambda: len(self.events(run_id, dg.DagsterEventType.STEP_START)) == 2, "the step that waits")
        eventually(lambda: self.emulator.requests().get("get_job", 0) > before, "the run to ask after its job")
        assert [job.status for job in self.jobs(partition)] == ["pending"]
        return run_id


@contextmanager
def deployed(home: Path, definitions: Path, dagster_yaml: str, *, daemon: Path | None = None) -> Iterator[Deployment]:
    """A deployment in a fresh home, which is gone when the block ends, with every process of it.

    Args:
        home: a directory, which becomes DAGSTER_HOME.
        definitions: the file of the code location, which reads `SITE` and `DATA` from its environment.
        dagster_yaml: what the instance is.
        daemon: a program that runs the daemon, if there is to be one; it takes the daemon's arguments.
    """
    (home / "dagster.yaml").write_text(dagster_yaml)
    workspace = home / "workspace.yaml"
    workspace.write_text(f"load_from: [{{python_file: {{relative_path: {definitions}, location_name: {_LOCATION}}}}}]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        site = stack.enter_context(GatedSite())
        emulator = stack.enter_context(Emulator(token=TOKEN, speed=50, plan="advanced"))
        environment = os.environ | {
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": str(_ROOT),
            "SCRAPE_DO_API_KEY": TOKEN,
            "SCRAPE_DO_BASE_URL": emulator.base_url,
            "SITE": site.url,
            "DATA": str(home / "data"),
        }
        # Before the others: Dagster's processes cannot all make the databases of a new home at once.
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        webserver = ["-m", "dagster_webserver", "-w", str(workspace), "-p", str(port)]
        stack.enter_context(_running(webserver, home / "webserver.log", environment))
        if daemon is not None:
            stack.enter_context(_running([str(daemon), "-w", str(workspace)], home / "daemon.log", environment))
        ledger = Ledger(f"sqlite:///{home}/scrapedo/ledger.db")
        stack.callback(ledger.close)
        eventually(lambda: _answers(url), "the webserver")
        yield Deployment(url, instance, ledger, emulator, site, home / "data")


@contextmanager
def _running(arguments: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # A shell that starts something with `&` makes it ignore Ctrl-C, and the children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        yield
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind, if it died by itself
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=5).is_success
    except httpx.TransportError:
        return False
