"""A receiver that listens, an inbox of each kind, and what the service would post."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from pyarrow import fs

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator, EmulatorSettings
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.collection.batch_collector import collect_batch
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.inbox.address import PATH, SECRET_HEADER, Webhook, submission_key
from scrapedo_dagster.engine.inbox.opening import open_inbox
from scrapedo_dagster.engine.inbox.protocol import Delivery, Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.storage.schema import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.webhooks.app import Receiver
from scrapedo_dagster.webhooks.log import Log
from scrapedo_dagster.webhooks.secrets import Secrets
from scrapedo_dagster.webhooks.server import make_server
from tests.support.submission import make_submitter

TOKEN = "canary-7f3a9c"
SECRET = "canary-7f3a9c-current-secret"
PREVIOUS = "canary-7f3a9c-previous-secret"
REF = PartitionRef(account_fingerprint(TOKEN), "shop", "mon")
_one_tls_context = functools.cache(ssl.create_default_context)
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

    def __init__(self, receiver: Receiver, server: uvicorn.Server, output: io.StringIO) -> None:
        self.receiver = receiver
        self._server = server
        self._output = output
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        eventually(lambda: server.started)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

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
        self._server.should_exit = True
        self._thread.join(20)


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


@pytest.fixture(params=["directory", "table", "mock", "memory"])
def any_inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Inbox:
    """An inbox of each kind: on a local disk, in a database, and on two filesystems that are not local."""
    if request.param == "table":
        return open_inbox(None, request.getfixturevalue("ledger"))
    if request.param == "memory":
        uri = f"fsspec+memory:///{uuid4().hex}"
        try:
            fs.FileSystem.from_uri(uri)
        except pa.ArrowInvalid:
            pytest.skip("this release of pyarrow knows no fsspec URIs")
        return open_inbox(uri, None)
    return open_inbox({"directory": str(tmp_path / "in box"), "mock": "mock:///bucket/inbox"}[request.param], None)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return open_inbox(str(tmp_path / "inbox"), None)


@pytest.fixture
def start(inbox: Inbox) -> Iterator[Callable[..., Running]]:
    """Starts a receiver: `start(ledger=..., max_body=...)`."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Running:
            output, secrets = io.StringIO(), Secrets((SECRET, PREVIOUS))
            receiver = Receiver(secrets, **{"inbox": inbox, "log": Log(output, secrets), **settings})
            running = Running(receiver, make_server(receiver, "127.0.0.1", 0), output)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    """A receiver with files, that knows no ledger."""
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

    def told(self, submission: SubmissionWithTargets) -> None:
        """Until the emulator has nothing more to deliver."""
        with ScrapeDoAsyncAPIClient(TOKEN, base_url=self.emulator.base_url) as client:
            for task_id in submission.task_ids:
                eventually(
                    lambda task_id=task_id: (
                        client.get_task(submission.job_id or "", task_id).webhook_status in {"success", "failed"}
                    )
                )

    def collect(self, submission: SubmissionWithTargets, inbox: Inbox | None, **settings: Any) -> int:
        """Collects. How many tasks were fetched for it."""
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


@pytest.fixture(autouse=True)
def _quick_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each httpx client reads all certificates anew, which takes longer than most of these tests."""
    monkeypatch.setattr(ssl, "create_default_context", _one_tls_context)


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
