"""Whatever the service, the internet and the system do: one correct row a target, and nothing that was forged."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

import httpx
import psutil
import pytest

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER, Webhook, submission_key

TOKEN, SECRET = "canary-7f3a9c", "canary-7f3a9c-current-secret"
HERE = Path(__file__).parent
MEGABYTE = 2**20


def is_correct(pipeline: Any, urls: list[str], generation: int = 1) -> bool:
    """One row a target, with the content of its page and paid once."""
    rows = pipeline.rows(generation)
    assert [row["url"] for row in rows] == urls
    assert [row["status"] for row in rows] == ["success"] * len(urls)
    assert sum(row["credits_used"] for row in rows) == len(urls)
    return all(row["content"] == pipeline.page(row["url"]) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_deliveries_come_twice_late_never_damaged_and_forged(
    pipeline: Any, running: Any, inbox: Inbox, ledger: Ledger, tmp_path: Path, task_body: Any, seed: int
) -> None:
    pipeline.emulator.set_faults(
        {
            "seed": seed,
            "wire": {"shuffle_task_ids": True},
            "webhooks": [
                {"kind": "duplicate", "probability": 0.5},
                {"kind": "delay", "seconds": 400, "probability": 0.4},
                {"kind": "lose", "probability": 0.2},
                {"kind": "truncate", "probability": 0.3},
            ],
        }
    )
    urls = pipeline.urls(40)
    webhook = Webhook(running.url, SECRET)
    other = pipeline.finished(pipeline.submit(pipeline.urls(3), None))
    [replayed, *_] = replays(pipeline, other)
    ledger.submissions.mark_collected(other, credits_used=0, succeeded=0)
    submission = pipeline.submit(urls, webhook)
    forged = task_body(submission.job_id, "?", Content="forged")

    def attack(number: int) -> int:
        task_id = submission.task_ids[number % len(submission.task_ids)]
        body = forged.replace(b'"?"', json.dumps(task_id).encode())
        secret = [None, "", "wrong" * 8, TOKEN][number % 4]
        return int(running.post(body, key=submission_key(submission), secret=secret).status_code)

    with ThreadPoolExecutor(4) as forgers:
        attacks = forgers.map(attack, range(200))
        assert running.post(replayed, key=submission_key(submission)).status_code == 200
        finished = pipeline.finished(submission)
        # Some of it is there, some still comes.
        fetched = pipeline.collect(finished, inbox)
        assert set(attacks) == {401}
    assert 0 < fetched < len(urls), "some was lost or late, and some was there"
    assert is_correct(pipeline, urls, 2)
    assert ledger.submissions.get(submission.id).state == State.COLLECTED
    pipeline.wait_for_deliveries(submission)
    assert is_correct(pipeline, urls, 2), "what came after it was collected changes nothing"
    assert b"forged" not in b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*.parquet"))
    for line in running.requests():
        assert line["status"] in (200, 400, 401), line


def replays(pipeline: Any, submission: SubmissionWithTargets) -> list[bytes]:
    """The tasks of a submission as the service would post them."""
    with httpx.Client(base_url=f"{pipeline.emulator.base_url}/api/v1", headers={"X-Token": TOKEN}) as http:
        return [http.get(f"/jobs/{submission.job_id}/{task_id}").content for task_id in submission.task_ids]


class Receivers:
    """One receiver after the other on the same port, each of them killed."""

    def __init__(self, spec: dict[str, Any]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._spec = {**spec, "port": self.port}
        self._parent = subprocess.Popen(
            [sys.executable, str(HERE / "forked_receivers.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SCRAPE_DO_WEBHOOK_SECRET": SECRET},
        )
        self.pid = 0

    def start(self) -> None:
        """Returns once it listens."""
        stdin, stdout = cast("IO[str]", self._parent.stdin), cast("IO[str]", self._parent.stdout)
        stdin.write(json.dumps(self._spec) + "\n")
        stdin.flush()
        self.pid = int(stdout.readline())
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
                return
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.002)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        cast("IO[str]", self._parent.stdin).close()
        self._parent.wait(20)


@pytest.fixture
def receivers() -> Iterator[Callable[..., Receivers]]:
    with contextlib.ExitStack() as stack:

        def make(**spec: Any) -> Receivers:
            made = Receivers(spec)
            stack.callback(made.close)
            return made

        yield make


@pytest.mark.slow
def test_a_receiver_that_is_killed_a_hundred_times_loses_nothing_that_it_answered_and_takes_nothing_forged(
    pipeline: Any, receivers: Any, inbox: Inbox, tmp_path: Path, task_body: Any
) -> None:
    kills = 100
    # So many that there is always one which was never delivered.
    urls = [f"{url}?number={number}" for number in range(16) for url in pipeline.urls(40)]
    submission = pipeline.finished(pipeline.submit(urls, None))
    bodies = dict(zip(submission.task_ids, replays(pipeline, submission), strict=True))
    log = tmp_path / "receiver.log"
    spec = {"ledger": f"sqlite:///{tmp_path / 'ledger.db'}", "log": str(log)}
    receiver = receivers(**spec)
    path = PATH + submission_key(submission)
    chance, answered, broken = random.Random(3), set[str](), 0
    happened = threading.Condition()

    def deliver(task_id: str) -> None:
        nonlocal broken
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
        try:
            connection.request("POST", path, bodies[task_id], {SECRET_HEADER: SECRET})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            status = 0  # the service would repeat it
        finally:
            connection.close()
        assert status in (0, 200)
        with happened:
            broken += status == 0
            answered.update([task_id] if status else [])
            happened.notify()

    forgeries: Counter[int] = Counter()
    is_over = threading.Event()

    def forge() -> None:
        """Who knows all but the secret, for as long as there are kills."""
        for number in itertools.count():
            if is_over.is_set():
                return
            task_id = submission.task_ids[number % len(submission.task_ids)]
            body = task_body(submission.job_id, task_id, Content="forged")
            secret = {SECRET_HEADER: "wrong" * 8} if number % 2 else {}
            connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
            try:
                connection.request("POST", path, body, secret)
                forgeries[connection.getresponse().status] += 1
            except (OSError, http.client.HTTPException):
                forgeries[0] += 1
                is_over.wait(0.005)
            finally:
                connection.close()

    with ThreadPoolExecutor(9) as service, contextlib.ExitStack() as ending:
        ending.callback(is_over.set)
        forging = service.submit(forge)
        for _ in range(kills):
            receiver.start()
            left = [task_id for task_id in submission.task_ids if task_id not in answered]
            chosen = chance.sample(left, min(7, len(left)))
            enough = len(answered) + chance.randrange(min(5, 1 + len(left)))
            chosen += chance.sample(sorted(answered), min(1, len(answered)))
            posting = [service.submit(deliver, task_id) for task_id in chosen]
            with happened:
                happened.wait_for(lambda: len(answered) >= enough, timeout=20)  # noqa: B023 - it ends here
            time.sleep(chance.uniform(0, 0.004))  # the moment of death, anywhere in the next delivery
            receiver.kill()
            for each in posting:
                each.result()
            found = {
                arrival.task_id
                for arrival in inbox.arrivals([submission_key(submission)]).get(submission_key(submission), ())
            }
            assert answered <= found, "what was answered 200 is there"
    forging.result()
    assert set(forgeries) <= {0, 401}
    assert forgeries[401] > kills, "there was somebody at it"
    assert broken > kills, "deliveries were under way when it died"
    assert len(answered) > kills, "and others had been answered"
    receiver.start()
    for task_id in submission.task_ids:
        deliver(task_id)
    assert answered == set(submission.task_ids)
    for task_id, body in bodies.items():
        assert inbox.read(submission_key(submission), submission.job_id or "", task_id) == body, (
            "and nothing that was forged"
        )
    assert pipeline.collect(submission, inbox) == 0
    assert is_correct(pipeline, urls)


@pytest.fixture
def command(tmp_path: Path, any_task: SubmissionWithTargets, eventually: Any) -> Iterator[tuple[psutil.Process, str]]:
    """`scrapedo-dagster webhooks`, as it is run, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from scrapedo_dagster.cli.main import main; main()"]
    ledger_url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with (tmp_path / "stdout.jsonl").open("wb") as stdout, (tmp_path / "stderr.log").open("wb") as stderr:
        process = subprocess.Popen(
            [*program, "webhooks", "--port", str(port), "--ledger-url", ledger_url],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "SCRAPE_DO_WEBHOOK_SECRET": SECRET},
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        return False

    try:
        eventually(answers, within=60)
        yield psutil.Process(process.pid), url
        process.terminate()
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def peak(process: psutil.Process) -> int:
    """Return the peak memory of a process in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak memory that Linux reports")
def test_memory_is_bounded_whatever_is_sent(
    command: tuple[psutil.Process, str],
    any_task: SubmissionWithTargets,
    inbox: Inbox,
    task_body: Any,
    tmp_path: Path,
) -> None:
    process, url = command
    key = submission_key(any_task)
    address, headers = f"{url}{PATH}{key}", {SECRET_HEADER: SECRET}
    before = peak(process)

    def zeros(megabytes: int) -> Iterator[bytes]:
        for _ in range(megabytes):
            yield b"0" * MEGABYTE

    def huge(number: int) -> int | None:
        sent = headers if number % 2 else {}
        announced = {"Content-Length": str(100 * MEGABYTE)} if number % 4 < 2 else {}
        try:
            return httpx.post(
                address, content=zeros(100), headers={**sent, **announced}, timeout=60, trust_env=False
            ).status_code
        except httpx.HTTPError:
            return None  # it did not wait for the end

    whole = task_body(Content="x" * 15 * MEGABYTE)

    def large(number: int) -> int:
        body = whole.replace(b'"t1"', b'"t%d"' % number)
        return httpx.post(address, content=body, headers=headers, timeout=120, trust_env=False).status_code

    with ThreadPoolExecutor(20) as threads:
        assert set(threads.map(huge, range(12))) <= {401, 413, None}
        assert set(threads.map(large, range(30))) == {200}
    with contextlib.ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        head = f"POST {PATH}{key} HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\n"
        for _ in range(200):
            slow = stack.enter_context(socket.create_connection((host, int(port))))
            slow.sendall(f"{head}Content-Length: 10000\r\n\r\n{{".encode())
        quick = httpx.post(
            address, content=task_body(task_id="quick"), headers=headers, timeout=20, trust_env=False
        ).status_code
        assert quick == 200, "two hundred slow ones block no other"
    grown = (peak(process) - before) / MEGABYTE
    assert grown < 250, f"{grown:.0f} MB more for 30 x 15 MB at once"
    arrivals = inbox.arrivals([key])[key]
    assert len(arrivals) == 31
    lines = [json.loads(line) for line in (tmp_path / "stdout.jsonl").read_text().splitlines()]
    assert {line["status"] for line in lines if line["event"] == "request"} <= {200, 401, 413, 499}
    assert (tmp_path / "stderr.log").read_text() == ""


def test_a_client_of_the_service_sees_how_its_deliveries_went(pipeline: Any, start: Any, eventually: Any) -> None:
    """The whole of it once more, without any fault: WebhookStatus is success for each task."""
    submission = pipeline.finished(pipeline.submit(pipeline.urls(2), Webhook(start().url, SECRET)))
    with ScrapeDoAsyncAPIClient(TOKEN, base_url=pipeline.emulator.base_url) as client:
        for task_id in submission.task_ids:
            task = eventually(
                lambda task_id=task_id: (
                    (found := client.get_task(submission.job_id or "", task_id)).webhook_status == "success" and found
                )
            )
            assert task.webhook_request_time >= task.end_time
