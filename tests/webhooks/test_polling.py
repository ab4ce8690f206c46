"""How often Scrape.do is asked although results are delivered: seldom, and for all jobs at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from scrapedo_dagster.api import RetryPolicy, ScrapeDoAsyncAPIClient, ScrapeOptions
from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.engine.inbox.address import Webhook, submission_key
from scrapedo_dagster.engine.inbox.protocol import Delivery, Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import poll_order
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.settings import Limits
from scrapedo_dagster.engine.targets.validation import validated_entries

TOKEN = "canary-7f3a9c"
REF = PartitionRef(account_fingerprint(TOKEN), "shop", "mon")
TICK = timedelta(seconds=10)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = timedelta(0)
        now = Ledger.now
        monkeypatch.setattr(Ledger, "now", lambda ledger: now(ledger) + self.passed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def client(pipeline: Any) -> ScrapeDoAsyncAPIClient:
    return ScrapeDoAsyncAPIClient(TOKEN, base_url=pipeline.emulator.base_url, retry=RetryPolicy(attempts=1))


def requests_in_ten_minutes(pipeline: Any, client: ScrapeDoAsyncAPIClient, inbox: Inbox | None, clock: Clock) -> int:
    """For the sensor's looks at 80 jobs that were submitted one after the other, in five minutes."""
    ledger: Ledger = pipeline.ledger
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
        clock.passed += timedelta(minutes=5) / 80
    before = asked(pipeline)
    polled_at = None
    for _ in range(60):
        clock.passed += TICK
        poller = JobPoller(ledger, client, inbox, print, polled_at)
        with suppress(ScrapeDoError):
            poller.poll(poll_order(ledger.submissions.of_generation(REF, 1), 0, ledger.now()))
        polled_at = poller.polled_at
    return asked(pipeline) - before


def asked(pipeline: Any) -> int:
    requests = pipeline.emulator.requests()
    return int(requests.get("get_job", 0) + requests.get("list_jobs", 0))


@pytest.mark.slow
def test_a_silent_receiver_makes_no_more_requests_than_none(
    pipeline: Any, client: ScrapeDoAsyncAPIClient, inbox: Inbox, clock: Clock
) -> None:
    """Every two minutes a look at the listing, where without webhooks there is one every ten seconds."""
    assert requests_in_ten_minutes(pipeline, client, inbox, clock) <= 12


def test_a_job_that_cannot_be_asked_for_is_asked_for_in_its_turn(
    pipeline: Any, client: ScrapeDoAsyncAPIClient, inbox: Inbox, clock: Clock
) -> None:
    pipeline.emulator.set_faults(
        {
            "targets": [{"kind": "linger", "match": "*", "seconds": 1e9}],
            "calls": [{"endpoint": "get_job", "kind": "status", "status": 500}],
        }
    )
    submission = pipeline.submit(pipeline.urls(1), None)
    poller = JobPoller(pipeline.ledger, client, inbox, print)
    before = asked(pipeline)
    for _ in range(60):
        clock.passed += TICK
        with suppress(ScrapeDoError):
            poller.poll([submission])
    assert 5 <= asked(pipeline) - before <= 7


def test_a_batch_that_waits_for_its_turn_reads_the_inbox_too(pipeline: Any, inbox: Inbox, task_body: Any) -> None:
    pipeline.emulator.set_faults({"targets": [{"kind": "linger", "match": "*", "seconds": 1e9}]})
    webhook = Webhook("http://127.0.0.1:9", "x" * 32)
    submitter = pipeline.submitter(webhook, inbox=inbox, batch_size=1, limits=Limits(max_open_jobs=1))
    ledger: Ledger = pipeline.ledger
    with submitter.client:
        number = submitter.begin(validated_entries(pipeline.urls(2), "raise")).number
        first, second = ledger.submissions.with_targets(REF, number)
        assert submitter.advance([first])
        before = asked(pipeline)
        for _ in range(5):
            assert not submitter.advance([second])
        assert asked(pipeline) - before <= 2
        first = ledger.submissions.get(first.id)
        [task_id] = first.task_ids
        job_id = first.job_id or ""
        inbox.put([Delivery(submission_key(first), job_id, task_id, task_body(job_id, task_id))])
        assert submitter.advance([second])
        assert asked(pipeline) - before <= 2
    assert ledger.submissions.get(first.id).state == State.FINISHED
