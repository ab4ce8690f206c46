"""How often Scrape.do is polled although results are delivered: seldom, and for all jobs at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scrapedo_dagster.api import RetryPolicy, ScrapeDoAsyncAPIClient, ScrapeOptions
from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.engine.inbox.deliveries import Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import poll_order
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.settings import Limits
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.engine.webhook_address import Webhook, submission_key

TOKEN = "canary-7f3a9c"
REF = PartitionRef(account_fingerprint(TOKEN), "shop", "mon")
TICK = timedelta(seconds=10)


class LedgerAhead(Ledger):
    """A ledger whose clock a test sets forward."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerAhead]:
    ledger = LedgerAhead(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def client(pipeline: Any) -> ScrapeDoAsyncAPIClient:
    return ScrapeDoAsyncAPIClient(TOKEN, base_url=pipeline.emulator.base_url, retry=RetryPolicy(attempts=1))


def requests_in_ten_minutes(pipeline: Any, client: ScrapeDoAsyncAPIClient, inbox: Inbox | None) -> int:
    """Poll 80 jobs, which were submitted over five minutes, at each tick. Returns the number of requests."""
    ledger: LedgerAhead = pipeline.ledger
    pipeline.emulator.set_faults(
        {
            "targets": [{"kind": "linger", "match": "*", "seconds": 1e9}],
            "calls": [{"endpoint": "get_job", "kind": "status", "status": 500, "match": "*/products/1"}],
        }
    )
    ledger.generations.plan(
        REF, 1, [validated_entries([url], "raise") for url in pipeline.urls(80)], fingerprint="f", run_id=None
    )
    for planned in ledger.submissions.with_targets(REF, 1):
        claimed = ledger.submissions.claim(planned, run_id=None, fingerprint="f")
        assert claimed is not None
        job = client.create_job(ScrapeOptions().job(planned.targets))
        ledger.submissions.mark_submitted(claimed, job.job_id, job.task_ids)
        ledger.ahead += timedelta(minutes=5) / 80
    before = polls(pipeline)
    polled_at = None
    for _ in range(60):
        ledger.ahead += TICK
        poller = JobPoller(ledger, client, inbox, print, polled_at)
        with suppress(ScrapeDoError):
            poller.poll(poll_order(ledger.submissions.of_generation(REF, 1), 0, ledger.now()))
        polled_at = poller.polled_at
    return polls(pipeline) - before


def polls(pipeline: Any) -> int:
    requests = pipeline.emulator.requests()
    return int(requests.get("get_job", 0) + requests.get("list_jobs", 0))


@pytest.mark.slow
def test_a_silent_receiver_makes_no_more_requests_than_none(
    pipeline: Any, client: ScrapeDoAsyncAPIClient, inbox: Inbox
) -> None:
    """The jobs are listed every two minutes, and without webhooks every ten seconds."""
    assert requests_in_ten_minutes(pipeline, client, inbox) <= 12


def test_a_job_that_cannot_be_polled_is_polled_at_the_same_intervals(
    pipeline: Any, client: ScrapeDoAsyncAPIClient, inbox: Inbox
) -> None:
    pipeline.emulator.set_faults(
        {
            "targets": [{"kind": "linger", "match": "*", "seconds": 1e9}],
            "calls": [{"endpoint": "get_job", "kind": "status", "status": 500}],
        }
    )
    submission = pipeline.submit(pipeline.urls(1), None)
    poller = JobPoller(pipeline.ledger, client, inbox, print)
    before = polls(pipeline)
    for _ in range(60):
        pipeline.ledger.ahead += TICK
        with suppress(ScrapeDoError):
            poller.poll([submission])
    assert 5 <= polls(pipeline) - before <= 7


def test_a_batch_that_waits_for_an_open_job_reads_the_inbox(pipeline: Any, inbox: Inbox, task_body: Any) -> None:
    pipeline.emulator.set_faults({"targets": [{"kind": "linger", "match": "*", "seconds": 1e9}]})
    webhook = Webhook("http://127.0.0.1:9", "x" * 32)
    submitter = pipeline.submitter(webhook, inbox=inbox, batch_size=1, limits=Limits(max_open_jobs=1))
    ledger: Ledger = pipeline.ledger
    with submitter.client:
        number = submitter.begin(validated_entries(pipeline.urls(2), "raise")).number
        first, second = ledger.submissions.with_targets(REF, number)
        assert submitter.advance([first])
        before = polls(pipeline)
        for _ in range(5):
            assert not submitter.advance([second])
        assert polls(pipeline) - before <= 2
        first = ledger.submissions.get(first.id)
        [task_id] = first.task_ids
        job_id = first.job_id or ""
        inbox.put([Delivery(submission_key(first), job_id, task_id, task_body(job_id, task_id))])
        assert submitter.advance([second])
        assert polls(pipeline) - before <= 2
    assert ledger.submissions.get(first.id).state == State.FINISHED
