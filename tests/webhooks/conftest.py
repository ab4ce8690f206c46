"""A receiver that listens, and a pipeline that delivers to it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator, EmulatorSettings
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.collection.batch_collector import collect_batch
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.inbox.deliveries import Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER, Webhook, submission_key
from scrapedo_dagster.webhooks.access_log import AccessLog
from scrapedo_dagster.webhooks.app import Receiver, ReceiverLimits
from scrapedo_dagster.webhooks.secrets import Secrets
from scrapedo_dagster.webhooks.server import make_server
from tests.support.submission import make_submitter

TOKEN = "canary-7f3a9c"
SECRET = "canary-7f3a9c-current-secret"
PREVIOUS = "canary-7f3a9c-previous-secret"
REF = PartitionRef(account_fingerprint(TOKEN), "shop", "mon")
KEY = f"{REF.account[:12]}-1"


def task_body(job_id: str = "j1", task_id: str = "t1", **fields: Any) -> bytes:
    """A finished task as it is posted."""
    task = {
        "TaskID": task_id,
        "JobID": job_id,
        "URL": f"https://shop.example/{task_id}",
        "Status": "success",
        "StatusCode": 200,
        "Content": f"<h1>{task_id}</h1>",
        "Base64EncodedContent": False,
        "ResponseHeaders": {"Content-Type": "text/html"},
        "Scrape.do": {"Credits-Used": "1"},
    }
    return json.dumps({**task, **fields}).encode()


class Running:
    """A receiver that listens, in a thread."""

    def __init__(self, receiver: Receiver, output: io.StringIO) -> None:
        self.receiver = receiver
        self._output = output
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        eventually(self._listens)
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = make_server(self.receiver, "127.0.0.1", self.port)
        await self._server.serve()

    def _listens(self) -> bool:
        with suppress(OSError):
            self.connect().close()
            return True
        return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def post(
        self, body: bytes | Iterator[bytes], *, key: str = KEY, secret: str | None = SECRET, **headers: str
    ) -> httpx.Response:
        if secret is not None:
            headers[SECRET_HEADER] = secret
        return self.http.post(PATH + key, content=body, headers=headers)

    def requests(self) -> list[dict[str, Any]]:
        """The access log."""
        lines = [json.loads(line) for line in self._output.getvalue().splitlines()]
        return [line for line in lines if line["event"] == "request"]

    def log(self) -> str:
        return self._output.getvalue()

    def stop(self) -> None:
        self.http.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()


def eventually(condition: Callable[[], Any], *, within: float = 20.0) -> Any:
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.005)
    return found


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def submitted(ledger: Ledger) -> Callable[..., SubmissionWithTargets]:
    """A submission whose job is known; the first one has the key KEY."""

    def submitted(
        job_id: str | None = "j1", *urls: str, generation: int = 1, task_ids: Sequence[str] = ()
    ) -> SubmissionWithTargets:
        default = [f"https://shop.example/{task_id}" for task_id in task_ids or ["t1"]]
        entries = validated_entries(urls or default, "raise")
        assert ledger.generations.plan(REF, generation, [entries], fingerprint="f", run_id=None)
        [planned] = ledger.submissions.with_targets(REF, generation)
        claimed = ledger.submissions.claim(planned, run_id=None, fingerprint="f")
        assert claimed is not None
        return claimed if job_id is None else ledger.submissions.mark_submitted(claimed, job_id, task_ids)

    return submitted


@pytest.fixture
def any_task(submitted: Callable[..., SubmissionWithTargets]) -> SubmissionWithTargets:
    """A submission whose job is not recorded yet: under KEY, up to 300 tasks of any job are stored."""
    return submitted(None, *(f"https://shop.example/{number}" for number in range(300)))


@pytest.fixture
def inbox(ledger: Ledger) -> Inbox:
    return Inbox(ledger)


@pytest.fixture
def start(ledger: Ledger, inbox: Inbox) -> Iterator[Callable[..., Running]]:
    """Starts a receiver: `start(inbox=..., max_body=...)`."""
    with ExitStack() as stack:

        def start(*, output: io.StringIO | None = None, **settings: Any) -> Running:
            output, secrets = output or io.StringIO(), Secrets((SECRET, PREVIOUS))
            parts = {name: settings.pop(name) for name in ("ledger", "inbox") if name in settings}
            parts = {"ledger": ledger, "inbox": inbox, **parts}
            receiver = Receiver(secrets, log=AccessLog(output, secrets), limits=ReceiverLimits(**settings), **parts)
            running = Running(receiver, output)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    return start()


@pytest.fixture
def key() -> Callable[[SubmissionWithTargets], str]:
    return submission_key


def delivery(key: str = KEY, job_id: str = "j1", task_id: str = "t1", body: bytes | None = None) -> Delivery:
    return Delivery(key, job_id, task_id, task_body(job_id, task_id) if body is None else body)


@pytest.fixture(name="delivery")
def _delivery() -> Callable[..., Delivery]:
    return delivery


@pytest.fixture(name="task_body")
def _task_body() -> Callable[..., bytes]:
    return task_body


class Pipeline:
    """A ledger, an emulator that posts to a receiver, and the tables that come of it."""

    def __init__(self, ledger: Ledger, emulator: Emulator, site: DemoSite, tables: PartitionTables) -> None:
        self.ledger, self.emulator, self.tables = ledger, emulator, tables
        self._site = site
        self._pages: dict[str, bytes] = {}

    def urls(self, amount: int) -> list[str]:
        return [f"{self._site.base_url}/2026-01-01/products/{number}" for number in range(1, amount + 1)]

    def submitter(self, webhook: Webhook | None, **settings: Any) -> Submitter:
        client = ScrapeDoAsyncAPIClient(TOKEN, base_url=self.emulator.base_url, timeout=10.0)
        return make_submitter(self.ledger, client, REF, webhook=webhook, **settings)

    def submit(self, urls: list[str], webhook: Webhook | None, **settings: Any) -> SubmissionWithTargets:
        """One job, submitted."""
        submitter = self.submitter(webhook, **settings)
        with submitter.client:
            [submission] = submitter.submit(submitter.begin(validated_entries(urls, "raise")).number)
        return submission

    def finished(self, submission: SubmissionWithTargets) -> SubmissionWithTargets:
        eventually(lambda: all(each.status in {"success", "error", "canceled"} for each in self.emulator.jobs()))
        return self.ledger.submissions.mark_finished(submission)

    def wait_for_deliveries(self, submission: SubmissionWithTargets) -> None:
        """Return once the emulator has nothing more to deliver."""
        with ScrapeDoAsyncAPIClient(TOKEN, base_url=self.emulator.base_url) as client:
            for task_id in submission.task_ids:
                eventually(
                    lambda task_id=task_id: (
                        client.get_task(submission.job_id or "", task_id).webhook_status in {"success", "failed"}
                    )
                )

    def collect(self, submission: SubmissionWithTargets, inbox: Inbox | None, **settings: Any) -> int:
        """Collect. Returns how many tasks were fetched."""
        before = self.emulator.requests().get("get_task", 0)

        async def main() -> None:
            async with AsyncScrapeDoAsyncAPIClient(TOKEN, base_url=self.emulator.base_url) as client:
                await collect_batch(self.ledger, client, self.tables, submission, inbox=inbox, **settings)

        asyncio.run(main())
        return self.emulator.requests().get("get_task", 0) - before

    def rows(self, generation: int = 1) -> list[dict[str, Any]]:
        """The rows of `tasks`, each with its content, by position."""
        rows, contents = (
            [
                row
                for part in table.parts("mon")
                if part.generation == generation
                for row in pq.read_table(part.path).to_pylist()
            ]
            for table in (self.tables.tasks, self.tables.contents)
        )
        content_of = {row["task_id"]: row["content"] for row in contents}
        assert len(content_of) == len(contents)
        return [{**row, "content": content_of.get(row["task_id"])} for row in rows]

    def page(self, url: str) -> bytes:
        """What the site has at the URL, whatever its query."""
        path = url.partition("?")[0]
        if path not in self._pages:
            self._pages[path] = httpx.get(path, trust_env=False).content
        return self._pages[path]


@pytest.fixture(scope="session")
def site() -> Iterator[DemoSite]:
    with DemoSite() as site:
        yield site


@pytest.fixture
def pipeline(ledger: Ledger, site: DemoSite, tmp_path: Path) -> Iterator[Pipeline]:
    store = ParquetStore(str(tmp_path / "data"))
    tables = PartitionTables(
        store.table(["shop", "tasks"], TASKS_SCHEMA), store.table(["shop", "contents"], CONTENTS_SCHEMA), "mon"
    )
    with Emulator(settings=EmulatorSettings(token=TOKEN, speed=500, webhook_retry_seconds=(0.0,) * 20)) as emulator:
        yield Pipeline(ledger, emulator, site, tables)
