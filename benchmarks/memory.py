"""Does memory grow with the partition? Collects 2,000 and 20,000 tasks of 50 KB, each in a fresh process.

The service is a raw asyncio server in a process of its own. Fails if the peak of the larger one is above 1.3 times that
of the smaller one. `python benchmarks/memory.py`, or `make bench-memory`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import IO, cast

BATCH = 1000
LIMIT = 1.3
TOKEN = "benchmark"  # noqa: S105 - of a server on this machine


def serve(size: int) -> None:
    """A service on which every job has ended. Prints its port."""
    noise = random.Random(1).randbytes(4 * size).hex()  # text that does not compress to nothing

    def answer(path: str) -> dict[str, object]:
        _, job_id, *task_id = path.removeprefix("/api/v1").strip("/").split("/")
        if task_id:
            return _task(job_id, task_id[0], noise, size)
        tasks = [{"TaskID": f"t{n}", "URL": _url(job_id, n), "Status": "success"} for n in range(BATCH)]
        return {"JobID": job_id, "Status": "success", "TaskIDs": [task["TaskID"] for task in tasks], "Tasks": tasks}

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.received = cast("asyncio.Transport", transport), b""

        def data_received(self, data: bytes) -> None:
            self.received += data
            while b"\r\n\r\n" in self.received:
                request, _, self.received = self.received.partition(b"\r\n\r\n")
                body = json.dumps(answer(request.split(b" ", 2)[1].decode())).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                self.transport.write(head.encode() + body)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - this is how the benchmark learns it
        await server.serve_forever()

    asyncio.run(main())


def _url(job_id: str, number: int) -> str:
    return f"https://shop.example/{job_id}/products/{number}"


def _task(job_id: str, task_id: str, noise: str, size: int) -> dict[str, object]:
    start = hash((job_id, task_id)) % (7 * size)
    return {
        "TaskID": task_id,
        "JobID": job_id,
        "URL": _url(job_id, int(task_id[1:])),
        "Status": "success",
        "StatusCode": 200,
        "Content": noise[start : start + size],
        "StartTime": "2026-01-01T00:00:00Z",
        "EndTime": "2026-01-01T00:00:02Z",
        "TraceID": task_id * 4,
        "ResponseHeaders": {"Content-Type": "text/html; charset=utf-8", "Server": "benchmark", "Vary": "Accept"},
        "Scrape.do": {"Credits-Used": "1", "Remaining-Credits": "1000000"},
    }


def collect(port: int, tasks: int, directory: Path) -> None:
    """Bring a generation home whose jobs have all ended. Prints the peak in kilobytes, and the rows."""
    from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient, ScrapeOptions
    from scrapedo_dagster.engine.bring_home import Homecoming
    from scrapedo_dagster.engine.collect import Tables
    from scrapedo_dagster.engine.ledger import Ledger, Scope, Submission, account_of
    from scrapedo_dagster.engine.parquet import ParquetStore
    from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
    from scrapedo_dagster.engine.submit import Submitter
    from scrapedo_dagster.engine.targets import batches_of, entries_of

    base_url = f"http://127.0.0.1:{port}"
    ledger, scope = Ledger(f"sqlite:///{directory / 'ledger.db'}"), Scope(account_of(TOKEN), "shop", None)
    jobs = tasks // BATCH
    entries = entries_of((_url(f"j{job}", n) for job in range(jobs) for n in range(BATCH)), "raise")
    ledger.plan(scope, 1, batches_of(entries, BATCH), fingerprint="f", run_id=None)
    del entries
    for number, planned in enumerate(ledger.submissions(scope, 1)):
        claimed = ledger.claim(planned, run_id=None, fingerprint="f")
        ledger.finished(ledger.submitted(cast("Submission", claimed), f"j{number}", [f"t{n}" for n in range(BATCH)]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = ParquetStore(str(directory / "data"))
    tables = Tables(store.table(["tasks"], TASKS_SCHEMA), store.table(["contents"], CONTENTS_SCHEMA), None)
    with ScrapeDoAsyncAPIClient(TOKEN, base_url=base_url) as client:
        worker = Submitter(ledger, client, scope, ScrapeOptions(), None, print)
        Homecoming(
            worker,
            lambda: AsyncScrapeDoAsyncAPIClient(TOKEN, base_url=base_url),
            tables,
        ).bring(1, job_timeout=timedelta(minutes=30))
    complete = tables.contents.current_generation(None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_kb": peak, "before_kb": before, **({} if complete is None else asdict(complete))}))  # noqa: T201


def measure(tasks: int, size: int) -> float:
    """The peak of a fresh process that collects so many tasks, in megabytes."""
    me = [sys.executable, str(Path(__file__).resolve())]
    with tempfile.TemporaryDirectory(prefix="scrapedo-memory-") as directory:
        server = subprocess.Popen([*me, "serve", str(size)], stdout=subprocess.PIPE, text=True)  # noqa: S603
        try:
            port = cast("IO[str]", server.stdout).readline().strip()
            started = time.monotonic()
            run = subprocess.run(  # noqa: S603
                [*me, "collect", port, str(tasks), directory], stdout=subprocess.PIPE, text=True, check=True
            )
            took = time.monotonic() - started
        finally:
            server.kill()
            server.wait()
    result = json.loads(run.stdout.splitlines()[-1])
    if result["rows"] != tasks:
        sys.exit(f"{tasks} tasks came to {result['rows']} rows")
    megabytes: float = result["peak_kb"] / 1024
    print(  # noqa: T201
        f"{tasks:>6} tasks of {size // 1000} KB: peak {megabytes:.0f} MB, of which {result['before_kb'] / 1024:.0f} MB "
        f"before the first; {took:.0f} s, {tasks / took:.0f} tasks/s, {result['bytes'] / 1e6:.0f} MB of Parquet",
        flush=True,
    )
    return megabytes


def main() -> None:
    """Compare a small and a large partition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=2_000)
    parser.add_argument("--large", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=50_000, help="bytes a task")
    arguments = parser.parse_args()
    ratio = 1 / measure(arguments.small, arguments.size) * measure(arguments.large, arguments.size)
    print(f"ratio {ratio:.2f} (at most {LIMIT}), on {os.cpu_count()} cores")  # noqa: T201
    if ratio > LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["collect"]:
        collect(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
