"""How many deliveries of 50 KB the receiver stores in a second, and how long the slowest of a hundred take.

The same load goes to an app that only reads the body and answers 200: that is what the machine, the server and the
client of this benchmark can do. The ratios to it show what it costs to authenticate, parse and store durably. Server
and client share the cores. `python benchmarks/webhooks.py`, or `make bench-webhooks`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET = "a-secret-of-this-benchmark-only"  # noqa: S105 - of a server on this machine
ACCOUNT = "0123456789ab"
TASKS_PER_JOB = 1000
WARM_UP = 100


def task_id(number: int) -> str:
    """The id of a task, as long as a real one."""
    return f"00000000-0000-0000-0000-{number:012}"


def job_id(number: int) -> str:
    """The id of a job, as long as a real one."""
    return f"00000000-0000-0000-0001-{number:012}"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer 200."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def serve_answer(port: int) -> None:
    """Serve the app that only answers, with the server of the receiver."""
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    server = Server(
        answer,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    asyncio.run(server.serve())


@dataclass(frozen=True)
class Measured:
    """Deliveries per second, and the 99th percentile of their times in milliseconds."""

    per_second: float
    p99: float


async def load(port: int, deliveries: range, connections: int, size: int) -> Measured:
    """Post all deliveries, each once, over so many connections."""
    noise = random.Random(1).randbytes(4 * size).hex()  # text that compresses to a half
    numbers = iter(deliveries)
    waits: list[float] = []

    def request(number: int) -> bytes:
        start = random.Random(number).randrange(7 * size)
        body = json.dumps(
            {
                "TaskID": task_id(number),
                "JobID": job_id(number // TASKS_PER_JOB),
                "URL": f"https://shop.example/products/{number}",
                "Status": "success",
                "StatusCode": 200,
                "Content": noise[start : start + size],
                "ResponseHeaders": {"Content-Type": "text/html; charset=utf-8", "Server": "benchmark"},
                "Scrape.do": {"Credits-Used": "1", "Remaining-Credits": "1000000"},
            }
        ).encode()
        path = f"/webhooks/scrape-do/{ACCOUNT}-{1 + number // TASKS_PER_JOB}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: benchmark\r\nX-Scrape-Do-Webhook-Secret: {SECRET}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            sent = request(number)
            began = time.perf_counter()
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            waits.append(time.perf_counter() - began)
            if b" 200 " not in head[:20]:
                sys.exit(f"the receiver answered {head[:30]!r}")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    took = time.perf_counter() - began
    return Measured(len(deliveries) / took, sorted(waits)[int(0.99 * len(waits))] * 1000)


def measure(command: list[str], port: int, arguments: argparse.Namespace) -> Measured:
    """Start a server, warm it up, load it."""
    environment = {**os.environ, "SCRAPE_DO_WEBHOOK_SECRET": SECRET}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    sys.exit("the server does not listen")
                time.sleep(0.05)
        asyncio.run(load(port, range(WARM_UP), 4, arguments.size))
        return asyncio.run(
            load(port, range(WARM_UP, WARM_UP + arguments.deliveries), arguments.connections, arguments.size)
        )
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Measure all cases and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--size", type=int, default=50_000, help="bytes of content of a delivery")
    parser.add_argument("--postgres", metavar="URL", help="an empty database, to measure that one too")
    arguments = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Where the disk is a real one, and not memory.
    with tempfile.TemporaryDirectory(prefix="scrapedo-webhooks-", dir=Path.cwd()) as directory:
        receiver = [
            *(sys.executable, "-c", "from scrapedo_dagster.cli.main import main; main()"),
            *("webhooks", "--port", str(port)),
        ]
        cases = {"answers 200 only": [sys.executable, str(Path(__file__).resolve()), "serve", str(port)]}
        ledgers = {"stores in SQLite": f"sqlite:///{directory}/ledger.db"}
        if arguments.postgres:
            ledgers["stores in Postgres"] = arguments.postgres
        for name, url in ledgers.items():
            plan_jobs(url, arguments.deliveries + WARM_UP)
            cases[name] = [*receiver, "--ledger-url", url]
        print(  # noqa: T201
            f"{arguments.deliveries} deliveries of {arguments.size // 1000} KB over {arguments.connections} "
            f"connections, {os.cpu_count()} cores for server and client"
        )
        base: Measured | None = None
        for name, command in cases.items():
            measured = measure(command, port, arguments)
            base = base or measured
            print(  # noqa: T201
                f"{name:<18} {measured.per_second:>6.0f}/s (ratio {measured.per_second / base.per_second:.2f})   "
                f"99th percentile {measured.p99:>5.0f} ms (ratio {measured.p99 / base.p99:.1f})",
                flush=True,
            )


def plan_jobs(url: str, deliveries: int) -> None:
    """Record the submissions that the deliveries belong to, each with the ids of its tasks."""
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import PartitionRef
    from scrapedo_dagster.engine.targets.validation import validated_entries

    ledger = Ledger(url)
    ref = PartitionRef(ACCOUNT + "0" * 20, "shop", None)
    entries = validated_entries([f"https://shop.example/{number}" for number in range(TASKS_PER_JOB)], "raise")
    ledger.generations.plan(ref, 1, [entries] * (1 + deliveries // TASKS_PER_JOB), fingerprint="f", run_id=None)
    for number, planned in enumerate(ledger.submissions.with_targets(ref, 1)):
        claimed = ledger.submissions.claim(planned, run_id=None, fingerprint="f")
        if claimed is None:
            sys.exit("the ledger is not empty")
        first = number * TASKS_PER_JOB
        ledger.submissions.mark_submitted(claimed, job_id(number), [task_id(first + n) for n in range(TASKS_PER_JOB)])
    ledger.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve_answer(int(sys.argv[2]))
    else:
        main()
