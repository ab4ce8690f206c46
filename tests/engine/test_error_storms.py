"""Storms: calls go wrong in every way at once, almost every second one. A partition ends right, and is paid once.

How many requests that may take is bounded by what each kind of call needs, over its chance to succeed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.retry import Backoff, RetryPolicy
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.limits import CollectLimits
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.collection import wait_and_collect

QUICK = Backoff(initial=0.001, maximum=0.01)
POLL = Backoff(initial=0.3, maximum=0.6)
RUNS = 40  # at most; as Dagster's retries would start them
BATCHES, SIZE = 3, 4
BAD = {"429": 0.15, "503": 0.15, "reset": 0.1, "lost": 0.1, "truncated": 0.1}

# The faults are tried in this order, and the first that hits ends the call.
GOOD = 1.0
for chance in BAD.values():
    GOOD *= 1 - chance


def storm(seed: int) -> dict[str, Any]:
    every: dict[str, Any] = {"endpoint": "*"}
    return {
        "seed": seed,
        "calls": [
            {**every, "kind": "status", "status": 429, "retry_after": 0, "probability": BAD["429"]},
            {**every, "kind": "status", "status": 503, "body": "html", "probability": BAD["503"]},
            {**every, "kind": "drop", "when": "before", "probability": BAD["reset"]},
            {**every, "kind": "drop", "when": "after", "probability": BAD["lost"]},
            {**every, "kind": "truncate", "probability": BAD["truncated"]},
        ],
    }


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 7))])
def test_partition_ends_right_and_each_target_is_paid_once(
    seed: int,
    submitter: Callable[..., Submitter],
    async_client: Callable[..., AsyncScrapeDoAsyncAPIClient],
    tables: PartitionTables,
    emulator: Emulator,
    token: str,
    ledger: Ledger,
    site: Any,
) -> None:
    targets = [f"{site.base_url}/2026-01-01/products/{1 + n}?{n}" for n in range(BATCHES * SIZE)]
    emulator.set_faults(storm(seed))
    policy = RetryPolicy(attempts=5, backoff=QUICK)
    # Only time tells a submission that was lost from one that is still on its way; here a moment is enough.
    claim_policy = ClaimPolicy(lease=timedelta(seconds=30), absent_after=timedelta(seconds=0.3), pause=0.3)
    runs = 0
    problems: list[str] = []
    started = time.monotonic()
    with ScrapeDoAsyncAPIClient(token, base_url=emulator.base_url, timeout=5.0, retry=policy) as client:
        worker = submitter(client=client, batch_size=SIZE, claim_policy=claim_policy)
        limits = CollectLimits(task_poll=QUICK)
        collector = PartitionCollector(worker, lambda: async_client(retry=policy), tables, limits=limits)
        while True:
            runs += 1
            assert runs <= RUNS, problems
            try:
                generation = worker.begin(validated_entries(targets, "raise")).number
                wait_and_collect(collector, generation, job_timeout=timedelta(seconds=20), poll=POLL)
                break
            except ScrapeDoError as error:
                problems.append(type(error).__name__)
    took = time.monotonic() - started
    requests = emulator.requests()
    print(
        f"seed {seed}: {runs} runs, {sum(requests.values())} requests in {took:.1f} s: {requests}; gave up: {problems}"
    )
    emulator.set_faults({})

    rows = tables.tasks.dataset(["mon"]).to_table().sort_by("position").to_pylist()
    assert [(row["position"], row["url"], row["status"]) for row in rows] == [
        (position, url, "success") for position, url in enumerate(targets)
    ]
    assert tables.contents.dataset(["mon"]).count_rows() == len(targets)
    assert [each.state for each in ledger.submissions.find()] == [State.COLLECTED] * BATCHES
    assert {url: count.submitted for url, count in emulator.targets().items()} == dict.fromkeys(targets, 1)
    assert {count.charged for count in emulator.targets().values()} == {1}
    assert len(emulator.jobs()) == BATCHES

    for name, needed in needs(took).items():
        # Each needed answer takes 1/GOOD calls on average. Four times that is far above what chance does to
        # so many calls, and far below what a loop that never ends, or one without pauses, would do.
        bound = 4 * needed / GOOD
        assert requests.get(name, 0) <= bound, f"{name}: {requests.get(name)} > {bound:.0f}"
    assert sum(requests.values()) <= 2 * sum(needs(took).values()) / GOOD


def needs(took: float) -> dict[str, float]:
    """How many good answers of each kind are needed at most."""
    # A submission is lost with the chance of what is no refusal; then it is looked for every 0.3 s or so.
    looks = BATCHES * 4 + took / 0.3
    polls = BATCHES * (took / POLL.initial / 0.5)
    return {
        "create_job": BATCHES / (1 - BAD["503"] - BAD["reset"]),
        "list_jobs": looks * 2,
        "me": looks + 2,
        "get_job": polls + BATCHES * 3 + looks,
        # A batch whose fetching fails starts again.
        "get_task": BATCHES * SIZE * 3,
        "cancel_job": 0,
    }
