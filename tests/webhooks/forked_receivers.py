"""Forks receivers from a process that has imported everything and opened nothing: one starts in milliseconds.

Reads a line of JSON for each: `{"port": ..., "inbox": ... or null, "ledger": ... or null}`. Answers with its pid.
Buries the one before.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from importlib import import_module
from typing import Any

import sqlalchemy.dialects.sqlite  # noqa: F401 - as all of these, what a receiver would import when it gets there

from scrapedo_dagster.engine.inbox.opening import open_inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.webhooks.app import Receiver
from scrapedo_dagster.webhooks.log import Log
from scrapedo_dagster.webhooks.secrets import Secrets
from scrapedo_dagster.webhooks.server import make_server

for name in (
    "anyio._backends._asyncio",
    "scrapedo_dagster.engine.inbox.files",
    "scrapedo_dagster.engine.inbox.table",
    "scrapedo_dagster.engine.ledger.migrations.names",
    "sqlite3",
    "uvloop",
):
    import_module(name)


def serve(spec: dict[str, Any]) -> None:
    os.dup2(os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    secrets = Secrets.from_environment(os.environ)
    ledger = Ledger(spec["ledger"]) if spec["ledger"] else None
    receiver = Receiver(secrets, open_inbox(spec["inbox"], ledger), Log(sys.stdout, secrets), ledger=ledger)
    make_server(receiver, "127.0.0.1", spec["port"]).run()


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
                serve(json.loads(line))
            finally:
                os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main()
