"""Forks receivers from a process that has imported everything and opened nothing: one starts in milliseconds.

Reads a line of JSON for each: `{"port": ..., "ledger": ..., "log": ...}`. Writes its pid. Reaps the one before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
from importlib import import_module
from typing import Any

import sqlalchemy.dialects.sqlite  # noqa: F401 - what a receiver imports later, like the names below

from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.webhooks.access_log import AccessLog
from scrapedo_dagster.webhooks.app import Receiver
from scrapedo_dagster.webhooks.secrets import Secrets
from scrapedo_dagster.webhooks.server import serve

for name in ("anyio._backends._asyncio", "scrapedo_dagster.engine.ledger.migrations.names", "sqlite3"):
    import_module(name)


def run(spec: dict[str, Any]) -> None:
    os.dup2(os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    secrets = Secrets.from_environment(os.environ)
    ledger = Ledger(spec["ledger"])
    receiver = Receiver(secrets, ledger, Inbox(ledger), AccessLog(sys.stdout, secrets))
    asyncio.run(serve(receiver, "127.0.0.1", spec["port"]))


def main() -> None:
    gc.freeze()
    child = 0
    for line in sys.stdin:
        if child:
            os.waitpid(child, 0)
        # A lock that another thread holds at the fork would be held for ever in the receiver.
        assert threading.active_count() == 1
        child = os.fork()
        if not child:
            try:
                run(json.loads(line))
            finally:
                os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main()
