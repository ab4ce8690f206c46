"""From a job with a webhook to its rows: delivered tasks are not fetched, and no others are believed."""

from __future__ import annotations

import asyncio
import gc
import random
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from scrapedo_dagster.api.errors import ScrapeDoError
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.inbox.delivered_tasks import DeliveredTasks
from scrapedo_dagster.engine.inbox.deliveries import Delivery
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.submissions import SubmissionStore
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.webhook_address import SECRET_HEADER, Webhook, submission_key

SECRET = "canary-7f3a9c-current-secret"


class FailingInbox(Inbox):
    """An inbox of which some methods raise an error."""

    def __init__(self, ledger: Ledger, failing: tuple[str, ...], error: BaseException) -> None:
        super().__init__(ledger)

        def fail(*_: Any) -> Any:
            raise error

        for name in failing:
            setattr(self, name, fail)


@pytest.fixture
def webhook(running: Any) -> Webhook:
    return Webhook(running.url, SECRET)


@pytest.fixture
def delivered(pipeline: Any, inbox: Inbox, webhook: Webhook, eventually: Any) -> Any:
    """A finished submission of so many targets, all of them delivered."""

    def delivered(amount: int) -> SubmissionWithTargets:
        submission = pipeline.finished(pipeline.submit(pipeline.urls(amount), webhook))
        eventually(
            lambda: len(inbox.arrivals([submission_key(submission)]).get(submission_key(submission), ())) == amount
        )
        return submission

    return delivered


def right(pipeline: Any, amount: int) -> bool:
    """One row a target, with the content of its page."""
    rows = pipeline.rows()
    assert [row["url"] for row in rows] == pipeline.urls(amount)
    assert {row["status"] for row in rows} == {"success"}
    assert {row["credits_used"] for row in rows} == {1}
    return all(row["content"] == pipeline.page(row["url"]) for row in rows)


def test_each_job_has_the_webhook(pipeline: Any, webhook: Webhook, ledger: Ledger) -> None:
    submission = pipeline.submit(pipeline.urls(2), webhook)
    [job] = pipeline.emulator.jobs()
    assert job.request["WebhookURL"] == f"{webhook.url}/webhooks/scrape-do/{submission_key(submission)}"
    assert job.request["WebhookHeaders"] == {SECRET_HEADER: SECRET}
    without = pipeline.submitter(None).settings.fingerprint
    assert ledger.submissions.get(submission.id).fingerprint == without, "the targets are scraped alike"


@pytest.mark.parametrize("own", [{"webhook_url": "https://mine.example"}, {"webhook_headers": {"X-Mine": "1"}}])
def test_a_webhook_of_the_options_beside_that_of_the_resource_is_refused(
    pipeline: Any, webhook: Webhook, own: Any
) -> None:
    with pytest.raises(WebhookError, match="Remove one of the two"):
        pipeline.submit(pipeline.urls(1), webhook, options=ScrapeOptions(**own))
    assert pipeline.emulator.jobs() == []
    pipeline.submit(pipeline.urls(1), None, options=ScrapeOptions(**own))


def test_the_error_of_a_refused_submission_does_not_show_the_secret(
    pipeline: Any, webhook: Webhook, ledger: Ledger
) -> None:
    pipeline.emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "status", "status": 400}]})
    with pytest.raises(ScrapeDoError) as e:
        pipeline.submit(pipeline.urls(1), webhook)
    assert "canary" not in "".join(traceback.format_exception(e.value)) + repr(vars(e.value))
    [submission] = ledger.submissions.find()
    assert submission.state == State.PLANNED
    assert "canary" not in repr(submission)


def test_a_lost_answer_is_reconciled_as_without_webhooks(pipeline: Any, webhook: Webhook) -> None:
    pipeline.emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "drop", "when": "after", "times": 1}]})
    claim_policy = ClaimPolicy(absent_after=timedelta(0), pause=0.01)
    submission = pipeline.submit(pipeline.urls(1), webhook, claim_policy=claim_policy)
    [job] = pipeline.emulator.jobs()
    assert submission.job_id == job.job_id
    assert job.request["WebhookURL"].endswith(submission_key(submission))


def test_delivered_tasks_are_not_fetched(pipeline: Any, inbox: Inbox, delivered: Any, ledger: Ledger) -> None:
    submission = delivered(5)
    assert pipeline.collect(submission, inbox) == 0
    assert right(pipeline, 5)
    assert ledger.submissions.get(submission.id).state == State.COLLECTED
    assert inbox.arrivals([submission_key(submission)]) == {}, "it is emptied"


def test_only_what_is_missing_is_fetched(pipeline: Any, inbox: Inbox, webhook: Webhook, eventually: Any) -> None:
    pipeline.emulator.set_faults({"webhooks": [{"kind": "lose", "match": "*/products/2"}]})
    submission = pipeline.finished(pipeline.submit(pipeline.urls(4), webhook))
    eventually(lambda: len(inbox.arrivals([submission_key(submission)]).get(submission_key(submission), ())) == 3)
    assert pipeline.collect(submission, inbox) == 1
    assert right(pipeline, 4)


def test_other_jobs_and_tasks_under_its_key_are_ignored(pipeline: Any, inbox: Inbox, task_body: Any) -> None:
    submission = pipeline.finished(pipeline.submit(pipeline.urls(2), None))
    key, job_id, task_ids = submission_key(submission), submission.job_id or "", submission.task_ids
    url = pipeline.urls(1)[0]
    inbox.put(
        [
            Delivery(key, "another", task_ids[0], task_body("another", task_ids[0], URL=url)),
            Delivery(key, job_id, "another", task_body(job_id, "another", URL=url)),
            # A body that is not what its name says.
            Delivery(key, job_id, task_ids[1], task_body("another", task_ids[1], URL=url)),
        ]
    )
    assert pipeline.collect(submission, inbox) == 2
    assert right(pipeline, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"Content": None},
        {"Content": "%%%", "Base64EncodedContent": True},
        {"Status": "pending"},
        {"TaskID": None},
        b"",
        b"{",
        b"\xff",
    ],
)
def test_a_delivery_that_cannot_be_read_is_as_if_it_were_not_there(
    pipeline: Any, inbox: Inbox, task_body: Any, change: Any
) -> None:
    submission = pipeline.finished(pipeline.submit(pipeline.urls(1), None))
    job_id, [task_id] = submission.job_id or "", submission.task_ids
    body = change if isinstance(change, bytes) else task_body(job_id, task_id, **change)
    inbox.put([Delivery(submission_key(submission), job_id, task_id, body)])
    assert pipeline.collect(submission, inbox) == 1
    assert right(pipeline, 1)


@pytest.mark.parametrize(
    "failing", [("arrivals",), ("size",), ("read",), ("remove",), ("arrivals", "size", "read", "remove")]
)
def test_an_inbox_out_of_reach_only_costs_the_requests(
    pipeline: Any, ledger: Ledger, delivered: Any, failing: tuple[str, ...]
) -> None:
    submission = delivered(2)
    inbox = FailingInbox(ledger, failing, OperationalError("SELECT", {}, Exception("no route to the database")))
    assert pipeline.collect(submission, inbox) == (0 if failing == ("remove",) else 2)
    assert right(pipeline, 2)


def test_delivered_tasks_are_collected_after_the_service_has_deleted_them(
    pipeline: Any, inbox: Inbox, delivered: Any, ledger: Ledger
) -> None:
    submission = delivered(3)
    pipeline.emulator.advance(timedelta(days=4))
    ledger_knows_less = ledger.submissions.get(submission.id)
    assert pipeline.collect(ledger_knows_less, inbox) == 0
    assert right(pipeline, 3)


def test_of_a_job_that_is_gone_the_rest_is_expired(
    pipeline: Any, inbox: Inbox, webhook: Webhook, eventually: Any
) -> None:
    pipeline.emulator.set_faults({"webhooks": [{"kind": "lose", "match": "*/products/2"}]})
    submission = pipeline.finished(pipeline.submit(pipeline.urls(3), webhook))
    eventually(lambda: len(inbox.arrivals([submission_key(submission)]).get(submission_key(submission), ())) == 2)
    pipeline.emulator.advance(timedelta(days=4))
    pipeline.collect(submission, inbox)
    assert [row["status"] for row in pipeline.rows()] == ["success", "expired", "success"]


def test_failed_targets_that_were_delivered_are_submitted_again(
    pipeline: Any, inbox: Inbox, delivered: Any, ledger: Ledger
) -> None:
    pipeline.emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2"}]})
    submission = delivered(3)
    assert pipeline.collect(submission, inbox, retries=1) == 0
    _, again = ledger.submissions.with_targets(submission.ref, 1)
    assert (again.state, again.targets) == (State.PLANNED, (pipeline.urls(2)[1],))
    assert submission_key(again) != submission_key(submission)
    assert [row["status"] for row in pipeline.rows()] == ["success", "success"]


def test_a_crash_before_the_inbox_is_emptied_leaves_deliveries_that_are_pruned(
    pipeline: Any, inbox: Inbox, delivered: Any, ledger: Ledger
) -> None:
    submission = delivered(2)
    with pytest.raises(KeyboardInterrupt):
        pipeline.collect(submission, FailingInbox(ledger, ("remove",), KeyboardInterrupt()))
    assert ledger.submissions.get(submission.id).state == State.COLLECTED
    assert right(pipeline, 2)
    assert inbox.prune(timedelta(seconds=-5)) == 2


def test_after_a_crash_before_it_is_recorded_it_is_collected_again(
    pipeline: Any, inbox: Inbox, delivered: Any, ledger: Ledger
) -> None:
    class DyingStore(SubmissionStore):
        def mark_collected(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    submission, store = delivered(2), ledger.submissions
    ledger.submissions = DyingStore(ledger)
    with pytest.raises(KeyboardInterrupt):
        pipeline.collect(submission, inbox)
    ledger.submissions = store
    assert pipeline.collect(submission, inbox) == 0
    assert right(pipeline, 2)


def test_for_a_job_without_deliveries_nothing_is_read(pipeline: Any, ledger: Ledger) -> None:
    submission = pipeline.finished(pipeline.submit(pipeline.urls(1), None))
    found = DeliveredTasks.find(FailingInbox(ledger, ("size", "read"), AssertionError()), submission)
    assert found.task_ids == frozenset()
    assert asyncio.run(found.task(submission.task_ids[0])) is None
    assert DeliveredTasks.find(None, submission).task_ids == frozenset()


def test_a_job_has_not_ended_because_so_many_were_delivered_that_it_does_not_have(
    pipeline: Any, inbox: Inbox, task_body: Any, ledger: Ledger
) -> None:
    pipeline.emulator.set_faults({"targets": [{"kind": "linger", "match": "*", "seconds": 100_000}]})
    submission = pipeline.submit(pipeline.urls(2), None)
    key, job_id = submission_key(submission), submission.job_id or ""

    def poll() -> list[State]:
        submitter = pipeline.submitter(None)
        with submitter.client:
            JobPoller(ledger, submitter.client, inbox, print).poll(ledger.submissions.of_generation(submission.ref, 1))
        return [each.state for each in ledger.submissions.of_generation(submission.ref, 1)]

    inbox.put([Delivery(key, job_id, f"invented {n}", task_body(job_id, f"invented {n}")) for n in range(3)])
    assert poll() == [State.SUBMITTED]
    inbox.put([Delivery(key, job_id, task_id, task_body(job_id, task_id)) for task_id in submission.task_ids])
    assert poll() == [State.FINISHED]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory that Linux reports")
def test_large_deliveries_are_collected_in_the_memory_of_a_few(pipeline: Any, inbox: Inbox, task_body: Any) -> None:
    urls = [f"{pipeline.urls(1)[0]}?{number}" for number in range(40)]
    submission = pipeline.finished(pipeline.submit(urls, None))
    content = random.Random(1).randbytes(4 * 2**20).hex()
    for task_id in submission.task_ids:
        body = task_body(submission.job_id, task_id, Content=content)
        inbox.put([Delivery(submission_key(submission), submission.job_id or "", task_id, body)])
    del body, content
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # from now on the peak is counted
    before = _memory("VmRSS")
    assert pipeline.collect(submission, inbox) == 0
    grown = _memory("VmHWM") - before
    assert len(pipeline.rows()) == 40
    assert grown < 320, f"{grown} MB for 40 deliveries of 8 MB"


def _memory(name: str) -> int:
    """In megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) // 1024
