"""The inbox on Postgres, shared by several receivers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from scrapedo_dagster.engine.inbox.compression import compress
from scrapedo_dagster.engine.inbox.deliveries import Arrival, Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox, QuarantineLimits
from scrapedo_dagster.engine.ledger.ledger import Ledger

KEY = "0123456789ab-1"


def delivery(task_id: str, key: str = KEY, body: bytes = b"\x00 any bytes \xff" * 1000) -> Delivery:
    return Delivery(key, "j1", task_id, body)


@pytest.mark.slow
def test_receivers_that_share_a_database_store_each_delivery_once(postgres: str) -> None:
    receivers = [Inbox(Ledger(postgres), QuarantineLimits(deliveries=1)) for _ in range(4)]
    batches = [[delivery(f"t{(start + n) % 50}") for n in range(10)] for start in range(0, 200, 5)]
    with ThreadPoolExecutor(4) as threads:
        stored = list(threads.map(lambda work: work[0].put(work[1]), zip(receivers * 10, batches, strict=True)))
    assert sum(map(sum, stored)) >= 50, "no deadlock"
    inbox = receivers[0]
    assert inbox.arrivals([KEY, "0123456789ab-2"]) == {KEY: {Arrival("j1", f"t{n}") for n in range(50)}}
    body = delivery("t1").body
    assert (inbox.read(KEY, "j1", "t1"), inbox.size(KEY, "j1", "t1")) == (body, len(body))
    assert inbox.read(KEY, "j2", "t1") is None
    assert inbox.quarantine([delivery("t1", "nobody\0 knows"), delivery("t2", "nobody")]) == [True, False]
    assert (inbox.quarantine_usage().deliveries, inbox.quarantine_usage().bytes) == (1, len(compress(body)))
    inbox.check()
    inbox.remove(KEY)
    assert inbox.arrivals([KEY]) == {}
    assert [inbox.prune(timedelta(hours=1)), inbox.prune(timedelta(seconds=-5))] == [0, 1]
