"""Forks workers from a process that has imported everything and opened nothing: a worker starts in milliseconds.

Reads requests from stdin, a line of JSON each: a list of workers to start together. Answers with a line of JSON: how
each ended, as `os.waitstatus_to_exitcode` says it, or null for one that had to be stopped.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from importlib import import_module
from typing import Any, NoReturn

from worker import work

# What a worker would import when it gets there.
for name in (
    "anyio._backends._asyncio",
    "encodings.cp1252",
    "encodings.idna",
    "httpcore._backends.anyio",
    "psycopg",
    "scrapedo_dagster.engine.ledger.migrations.names",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
):
    import_module(name)

_DEADLINE = 60.0  # seconds for workers to end


def main() -> None:
    gc.freeze()  # the collector would touch, and so copy, all of the parent's memory in every worker
    for line in sys.stdin:
        # A lock that another thread holds at the fork would be held for ever in the worker.
        assert threading.active_count() == 1
        specs = json.loads(line)
        ready, go = os.pipe()
        workers = [_fork(spec, ready, go) for spec in specs]
        os.close(ready)
        os.close(go)  # nothing comes, but the end of the pipe: all workers go at once
        deadline = time.monotonic() + _DEADLINE
        print(json.dumps([_wait(worker, deadline) for worker in workers]), flush=True)


def _fork(spec: dict[str, Any], ready: int, go: int) -> int:
    worker = os.fork()
    if not worker:
        _run(spec, ready, go)
    return worker


def _run(spec: dict[str, Any], ready: int, go: int) -> NoReturn:
    code = 1
    try:
        os.close(go)
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.read(ready, 1)
        work(spec)
        code = 0
    except BaseException:  # noqa: BLE001 - all that is left of the worker
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(worker: int, deadline: float) -> int | None:
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            return None
        time.sleep(0.002)


if __name__ == "__main__":
    main()
