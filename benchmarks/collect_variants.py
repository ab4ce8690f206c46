"""Variants of collecting: from finished jobs to Parquet, with this package and with its peers.

Each is a body for a separate process. It submits its jobs before the measured block, without latency, so that measuring
starts with finished jobs. Afterwards it reads its Parquet files back, and fails unless all rows and bytes are there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Meter
from local_service import TOKEN, Control, urls
from typing_extensions import Self

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1000
ROW_GROUP_BYTES = 16 * 1024 * 1024
LOOP_CONCURRENCY = 32


@dataclass(frozen=True)
class Workload:
    """What to fetch: number of tasks, bytes of a page, concurrent requests, and seconds of latency."""

    url: str
    tasks: int
    size: int
    concurrency: int = 64
    latency: float = 0.0

    def begin(self) -> None:
        """Reset the counts and set the latency."""
        Control(self.url).set(latency=self.latency)

    def end(self) -> dict[str, Any]:
        """Return the counts of the service, and reset it."""
        control = Control(self.url)
        counts = control.counts()
        control.set(latency=0.0)
        control.forget()
        return asdict(counts)

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Yield a directory for the results, and check it at the end of the block."""
        with tempfile.TemporaryDirectory(prefix="scrapedo-benchmark-") as directory:
            yield Path(directory)
            check(Path(directory), self.tasks, self.size)


def check(directory: Path, tasks: int, size: int) -> None:
    """Exit unless the Parquet files in `directory` have `tasks` contents of `size` bytes."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows, sizes = 0, set[int]()
    for path in directory.rglob("*.parquet"):
        with pq.ParquetFile(path) as file:
            if "content" not in file.schema_arrow.names:
                continue
            for batch in file.iter_batches(batch_size=64, columns=["content"]):
                rows += batch.num_rows
                sizes |= set(pc.binary_length(batch["content"]).unique().to_pylist())
    if rows != tasks or sizes != {size}:
        sys.exit(f"expected {tasks} tasks of {size} bytes, found {rows} rows of {sorted(sizes)[:5]} bytes")


# Ours


def ours(meter: Meter, **settings: Any) -> dict[str, Any]:
    """Collect finished jobs with this package: fetch, decode, hash, Parquet, ledger."""
    return _ours(meter, Workload(**settings), submit_too=False)


def ours_whole(meter: Meter, **settings: Any) -> dict[str, Any]:
    """Submit a list of targets and collect them with this package."""
    return _ours(meter, Workload(**settings), submit_too=True)


def _ours(meter: Meter, workload: Workload, *, submit_too: bool) -> dict[str, Any]:
    from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient, ScrapeOptions
    from scrapedo_dagster.engine.collection.coordinator import collect_generations
    from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
    from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
    from scrapedo_dagster.engine.polling.poller import JobPoller
    from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
    from scrapedo_dagster.engine.storage.tables import ParquetStore
    from scrapedo_dagster.engine.submission.settings import SubmissionSettings
    from scrapedo_dagster.engine.submission.submitter import Submitter
    from scrapedo_dagster.engine.targets.validation import validated_entries

    def client() -> AsyncScrapeDoAsyncAPIClient:
        return AsyncScrapeDoAsyncAPIClient(TOKEN, base_url=workload.url, max_concurrency=workload.concurrency)

    with workload.directory() as directory:
        ledger = Ledger(f"sqlite:///{directory / 'ledger.db'}")
        store = ParquetStore(str(directory / "data"))
        tables = PartitionTables(store.table(["tasks"], TASKS_SCHEMA), store.table(["contents"], CONTENTS_SCHEMA), None)
        with ScrapeDoAsyncAPIClient(TOKEN, base_url=workload.url) as blocking:
            ref = PartitionRef(account_fingerprint(TOKEN), "benchmark", None)
            submitter = Submitter(ledger, blocking, SubmissionSettings(ref, ScrapeOptions(), None), print)
            collector = PartitionCollector(submitter, client, tables)

            def submit() -> int:
                begun = submitter.begin(validated_entries(urls(workload.tasks), "raise"))
                submitter.submit(begun.number)
                return begun.number

            def collect(generation: int) -> None:
                for error in collect_generations({collector: generation}, job_timeout=timedelta(minutes=30)).values():
                    raise error

            if submit_too:
                ledger.submissions.count(ref.account, ())  # creates its tables
                workload.begin()
                with meter:
                    collect(submit())
            else:
                generation = submit()
                JobPoller(ledger, blocking, None, print).poll(ledger.submissions.with_targets(ref, generation))
                workload.begin()
                with meter:
                    collect(generation)
        return workload.end()


# The public SDK


def sdk(meter: Meter, **settings: Any) -> dict[str, Any]:
    """`submit_and_wait` of the SDK, then `to_parquet` of pandas; up to 1000 tasks. Measured from the end of the job."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    from scrape_do.async_api import ScrapeDoAsyncAPIClient

    workload = Workload(**settings)

    class Client(ScrapeDoAsyncAPIClient):
        BASE_URL = workload.url

        def wait_for_job(self, *arguments: Any, **settings: Any) -> Any:
            job = super().wait_for_job(*arguments, **settings)
            workload.begin()
            meter.__enter__()
            return job

    with workload.directory() as directory, Client(TOKEN) as client:
        result = client.submit_and_wait(targets=urls(workload.tasks))
        _with_pandas(result.tasks, directory)
        meter.__exit__(None, None, None)
        return workload.end()


def sdk_loop(meter: Meter, **settings: Any) -> dict[str, Any]:
    """A loop on the asyncio client of the SDK, 32 at once, then `to_parquet` of pandas, for up to 1000 tasks."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    from scrape_do.async_api import AsyncScrapeDoAsyncAPIClient

    workload = Workload(**settings)

    class Client(AsyncScrapeDoAsyncAPIClient):
        BASE_URL = workload.url

    async def run(directory: Path) -> None:
        async with Client(TOKEN) as client:
            created = await client.create_job(targets=urls(workload.tasks))
            job = await client.wait_for_job(created.job_id)
            slots = asyncio.Semaphore(LOOP_CONCURRENCY)

            async def fetch(task_id: str) -> Any:
                async with slots:
                    return await client.get_task(job.job_id, task_id)

            workload.begin()
            with meter:
                tasks = await asyncio.gather(*(fetch(task_id) for task_id in job.task_ids))
                _with_pandas(tasks, directory)

    with workload.directory() as directory:
        asyncio.run(run(directory))
        return workload.end()


def _with_pandas(tasks: Sequence[Any], directory: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        [{**task.model_dump(exclude={"content"}), "content": task.decoded_content()} for task in tasks]
    )
    frame.to_parquet(directory / "tasks.parquet")


# Bare aiohttp


def reading(meter: Meter, **settings: Any) -> dict[str, Any]:
    """Read the responses and discard them: the maximum of the machine, the server and aiohttp."""
    import aiohttp

    workload = Workload(**settings)

    async def run() -> None:
        jobs = _submitted(workload)
        async with aiohttp.ClientSession(
            workload.url, headers={"X-Token": TOKEN}, connector=aiohttp.TCPConnector(limit=workload.concurrency)
        ) as session:
            tasks = ((job["JobID"], task_id) for job in jobs for task_id in job["TaskIDs"])

            async def worker() -> int:
                read = 0
                for job_id, task_id in tasks:
                    async with session.get(f"/api/v1/jobs/{job_id}/{task_id}") as response:
                        read += len(await response.read()) > workload.size
                return read

            workload.begin()
            with meter:
                counts = await asyncio.gather(*(worker() for _ in range(workload.concurrency)))
            if sum(counts) != workload.tasks:
                sys.exit(f"expected {workload.tasks} responses, got {sum(counts)}")

    asyncio.run(run())
    return workload.end()


def same_work(meter: Meter, **settings: Any) -> dict[str, Any]:
    """A hand-written loop that does the same work, without the ledger and its guarantees.

    It parses with pydantic, decodes, hashes, and streams the same two tables into two Parquet files, which it encodes
    in a thread while it fetches.
    """
    import aiohttp
    import pyarrow.parquet  # noqa: F401

    from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA

    workload = Workload(**settings)
    read = _reader()

    async def run(directory: Path) -> None:
        jobs = [job["JobID"] for job in _submitted(workload)]
        async with aiohttp.ClientSession(
            workload.url, headers={"X-Token": TOKEN}, connector=aiohttp.TCPConnector(limit=workload.concurrency)
        ) as session:

            async def get(path: str) -> bytes:
                async with session.get(f"/api/v1/jobs/{path}") as response:
                    response.raise_for_status()
                    return await response.read()

            async def tasks() -> AsyncIterator[tuple[int, str, str]]:
                position = 0
                for job_id in jobs:
                    for task in json.loads(await get(job_id))["Tasks"]:
                        yield position, f"{job_id}/{task['TaskID']}", task["URL"]
                        position += 1

            workload.begin()
            with (
                meter,
                _Sink(directory / "tasks.parquet", TASKS_SCHEMA) as tasks_sink,
                _Sink(directory / "contents.parquet", CONTENTS_SCHEMA) as contents_sink,
            ):
                queue: asyncio.Queue[tuple[int, str, str] | None] = asyncio.Queue(2 * workload.concurrency)

                async def worker() -> None:
                    while (item := await queue.get()) is not None:
                        position, path, url = item
                        row, content = read(position, url, await get(path))
                        await tasks_sink.add(row, 1000)
                        if content is not None:
                            await contents_sink.add(content, 2 * len(content["content"]))

                workers = [asyncio.create_task(worker()) for _ in range(workload.concurrency)]
                async for item in tasks():
                    await queue.put(item)
                for _ in workers:
                    await queue.put(None)
                await asyncio.gather(*workers)
                await tasks_sink.flush()
                await contents_sink.flush()

    with workload.directory() as directory:
        asyncio.run(run(directory))
        return workload.end()


def _submitted(workload: Workload) -> list[dict[str, Any]]:
    """Submit all tasks and return the responses."""
    responses = []
    for first in range(0, workload.tasks, BATCH):
        body = json.dumps({"Targets": urls(min(BATCH, workload.tasks - first), first)}).encode()
        request = urllib.request.Request(f"{workload.url}/api/v1/jobs", body, {"X-Token": TOKEN})  # noqa: S310
        with urllib.request.urlopen(request) as response:  # noqa: S310
            responses.append(json.load(response))
    return responses


def _reader() -> Any:
    """Return a function that converts a response to the rows of both tables."""
    import pybase64
    from pydantic import BaseModel, Field

    class Task(BaseModel):
        task_id: str = Field(alias="TaskID")
        job_id: str = Field(alias="JobID")
        status: str = Field(alias="Status")
        status_code: int = Field(alias="StatusCode")
        start_time: datetime = Field(alias="StartTime")
        end_time: datetime = Field(alias="EndTime")
        update_time: datetime = Field(alias="UpdateTime")
        expires_at: datetime = Field(alias="ExpiresAt")
        is_base64: bool = Field(alias="Base64EncodedContent")
        headers: dict[str, str] = Field(alias="ResponseHeaders")
        billing: dict[str, str] = Field(alias="Scrape.do")
        content: str | None = Field(alias="Content")
        error_message: str | None = Field(alias="ErrorMessage")
        trace_id: str = Field(alias="TraceID")

    def read(position: int, url: str, body: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
        task = Task.model_validate_json(body)
        content: bytes | None = None
        if task.content is not None:
            content = pybase64.b64decode(task.content, validate=True) if task.is_base64 else task.content.encode()
        media_type, _, charset = task.headers.get("Content-Type", "").partition("; charset=")
        row = {
            "job_id": task.job_id,
            "task_id": task.task_id,
            "position": position,
            "url": url,
            "target_key": None,
            "status": task.status,
            "status_code": task.status_code,
            "start_time": task.start_time,
            "end_time": task.end_time,
            "update_time": task.update_time,
            "duration_ms": round((task.end_time - task.start_time).total_seconds() * 1000),
            "content_type": media_type,
            "charset": charset,
            "content_length": None if content is None else len(content),
            "content_sha256": None if content is None else hashlib.sha256(content).hexdigest(),
            "credits_used": int(task.billing["Credits-Used"]),
            "remaining_credits": int(task.billing["Remaining-Credits"]),
            "response_headers": list(task.headers.items()),
            "error_message": task.error_message,
            "expires_at": task.expires_at,
            "trace_id": task.trace_id,
            "generation": 1,
        }
        if content is None:
            return row, None
        text = content.decode(charset or "utf-8") if task.is_base64 else task.content
        described = {"task_id": task.task_id, "url": url, "status_code": task.status_code, "content_type": media_type}
        return row, {**described, "content": content, "text": text}

    return read


@dataclass
class _Sink:
    """A Parquet file with zstd and row groups of 16 MB, each encoded in a thread."""

    path: Path
    schema: pa.Schema
    rows: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq

        small = [name for name in self.schema.names if name not in {"content", "text", "response_headers"}]
        self.writer = pq.ParquetWriter(
            self.path, self.schema, compression="zstd", use_dictionary=small, write_statistics=small
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    async def add(self, row: dict[str, Any], size: int) -> None:
        """Append a row of about `size` bytes."""
        self.rows.append(row)
        self.bytes += size
        if self.bytes >= ROW_GROUP_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write the buffered rows as one row group. Meanwhile others can be buffered."""
        rows, self.rows, self.bytes = self.rows, [], 0
        if rows:
            async with self.lock:
                await asyncio.to_thread(self._write, rows)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        self.writer.write_table(pa.Table.from_pylist(rows, schema=self.schema), row_group_size=len(rows))


BODIES = {
    "ours": ours,
    "ours_whole": ours_whole,
    "sdk": sdk,
    "sdk_loop": sdk_loop,
    "reading": reading,
    "same_work": same_work,
}
