"""A table of scraped pages, and ways to fill it; and a ledger, an emulator and workers that use both."""

import functools
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import fs

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.retry import Backoff, RetryPolicy
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import CompleteGeneration, ParquetStore, ParquetTable
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.submission import make_submitter

TOKEN = "canary-7f3a9c"
QUICK = RetryPolicy(attempts=4, backoff=Backoff(initial=0.001, maximum=0.01))
QUICK_SENDING = RetryPolicy(backoff=QUICK.backoff)

_one_tls_context = functools.cache(ssl.create_default_context)


@pytest.fixture
def memory_store() -> ParquetStore:
    base = f"fsspec+memory:///{uuid4().hex}"
    try:
        fs.FileSystem.from_uri(base)
    except pa.ArrowInvalid:
        pytest.skip("this release of pyarrow knows no fsspec URIs")
    return ParquetStore(base)


@pytest.fixture(params=["path", "file", "mock", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ParquetStore:
    """A store on each kind of filesystem that runs here: local, and two that are not."""
    if request.param == "memory":
        store: ParquetStore = request.getfixturevalue("memory_store")
        return store
    return ParquetStore({"path": str(tmp_path), "file": tmp_path.as_uri(), "mock": "mock:///bucket"}[request.param])


@pytest.fixture
def any_pages(any_store: ParquetStore) -> ParquetTable:
    return any_store.table(["shop", "contents"], CONTENTS_SCHEMA)


@pytest.fixture
def pages(tmp_path: Path) -> ParquetTable:
    return ParquetStore(str(tmp_path)).table(["shop", "contents"], CONTENTS_SCHEMA)


@pytest.fixture
def batch_of() -> Callable[..., pa.RecordBatch]:
    def batch_of(*urls: str, content: bytes = b"<html>") -> pa.RecordBatch:
        rows = [{"task_id": f"task of {url}", "url": url, "content": content} for url in urls]
        return pa.RecordBatch.from_pylist(rows, schema=CONTENTS_SCHEMA)

    return batch_of


@pytest.fixture
def write_part(batch_of: Callable[..., pa.RecordBatch]) -> Callable[..., None]:
    """Commit a part with these urls, without completing its generation."""

    def write_part(table: ParquetTable, partition: str | None, generation: int, index: int, *urls: str) -> None:
        with table.open_part(partition, generation, index) as part:
            part.write(batch_of(*urls))

    return write_part


@pytest.fixture
def scrape(write_part: Callable[..., None]) -> Callable[..., CompleteGeneration]:
    """Write and complete a generation: one part for each list of urls."""

    def scrape(
        table: ParquetTable, partition: str | None, generation: int, *parts: Iterable[str]
    ) -> CompleteGeneration:
        for index, urls in enumerate(parts):
            write_part(table, partition, generation, index, *urls)
        return table.complete_generation(partition, generation, range(len(parts)))

    return scrape


@pytest.fixture
def urls_of() -> Callable[..., list[str]]:
    """What a reader of these partitions gets."""

    def urls_of(table: ParquetTable, *partitions: str | None) -> list[str]:
        keys = None if partitions == (None,) else [key for key in partitions if key is not None]
        urls: list[str] = table.dataset(keys).to_table(columns=["url"])["url"].to_pylist()
        return sorted(urls)

    return urls_of


class MovableLedger(Ledger):
    """A ledger whose clock can be moved, by `ahead`."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture(autouse=True)
def _quick_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each httpx client reads all certificates anew, which takes longer than most of these tests."""
    monkeypatch.setattr(ssl, "create_default_context", _one_tls_context)


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def account() -> str:
    return account_fingerprint(TOKEN)


@pytest.fixture
def ref(account: str) -> PartitionRef:
    return PartitionRef(account, "shop", "mon")


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'not yet there' / 'ledger.db'}"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[MovableLedger]:
    ledger = MovableLedger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def changes(ledger: MovableLedger) -> list[str]:
    """The statements by which the ledger changes its tables, each in a transaction of its own."""
    seen: list[str] = []

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE")):
            seen.append(statement)

    return seen


@pytest.fixture(scope="session")
def site() -> Iterator[DemoSite]:
    with DemoSite() as site:
        yield site


@pytest.fixture
def urls(site: DemoSite) -> Callable[..., list[str]]:
    """Targets that can be fetched; the same numbers are the same targets."""
    return lambda *numbers: [f"{site.base_url}/2026-01-01/products/{number}" for number in numbers]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(token=TOKEN, speed=500) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[ScrapeDoAsyncAPIClient]:
    with ScrapeDoAsyncAPIClient(TOKEN, base_url=emulator.base_url, timeout=5.0, retry=QUICK) as client:
        yield client


@pytest.fixture
def async_client(emulator: Emulator) -> Callable[..., AsyncScrapeDoAsyncAPIClient]:
    def async_client(**settings: Any) -> AsyncScrapeDoAsyncAPIClient:
        settings = {"timeout": 5.0, "retry": QUICK, **settings}
        return AsyncScrapeDoAsyncAPIClient(TOKEN, base_url=emulator.base_url, **settings)

    return async_client


@pytest.fixture
def claim_policy() -> ClaimPolicy:
    """Concludes from silence after a moment; workers are believed alive for long."""
    return ClaimPolicy(lease=timedelta(minutes=10), absent_after=timedelta(0), pause=0.01)


@pytest.fixture
def submitter(
    ledger: MovableLedger, client: ScrapeDoAsyncAPIClient, ref: PartitionRef, claim_policy: ClaimPolicy
) -> Callable[..., Submitter]:
    """A worker's submitter. What it logs is in `submitter.lines`."""
    lines: list[str] = []

    def submitter(**settings: Any) -> Submitter:
        defaults = {"ref": ref, "run_id": uuid4().hex, "claim_policy": claim_policy, "retry": QUICK_SENDING}
        return make_submitter(**{"ledger": ledger, "client": client, "log": lines.append, **defaults, **settings})

    submitter.lines = lines  # type: ignore[attr-defined]
    return submitter


@pytest.fixture
def plan(ledger: MovableLedger, ref: PartitionRef) -> Callable[..., Any]:
    """Plan a generation with one batch for each list of URLs; the submissions."""

    def plan(*batches: Iterable[str], within: PartitionRef = ref, generation: int = 1) -> Any:
        entries = [validated_entries(batch, "raise") for batch in batches]
        assert ledger.generations.plan(within, generation, entries, fingerprint="f", run_id="run")
        return ledger.submissions.with_targets(within, generation)

    return plan


@pytest.fixture
def tables(tmp_path: Path) -> PartitionTables:
    store = ParquetStore(str(tmp_path / "data"))
    return PartitionTables(
        store.table(["shop", "tasks"], TASKS_SCHEMA), store.table(["shop", "contents"], CONTENTS_SCHEMA), "mon"
    )


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Poll until something is true, and return it."""

    def eventually(condition: Callable[[], Any], *, within: float = 20.0) -> Any:
        deadline = time.monotonic() + within
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not become true in time"
            time.sleep(0.005)
        return found

    return eventually
