"""From an ended job to rows: one result a target, no paid result lost, no incomplete file read."""

from __future__ import annotations

import asyncio
import base64
import errno
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.errors import ScrapeDoError, UnparsableResponseError
from scrapedo_dagster.api.requests import JobRequest
from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.batch_collector import collect_batch
from scrapedo_dagster.engine.collection.limits import CollectLimits
from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.errors import AlreadyCollectedError, JobNotEndedError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.row_groups import PartWriter
from scrapedo_dagster.engine.storage.tables import ParquetStore, ParquetTable

Urls = Callable[..., list[str]]
Finish = Callable[..., SubmissionWithTargets]
Collect = Callable[..., None]


@pytest.fixture
def finish(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    plan: Callable[..., list[SubmissionWithTargets]],
    emulator: Emulator,
    eventually: Callable[..., Any],
) -> Finish:
    """A batch whose job has ended, as the ledger knows it."""

    def finish(urls: list[str], *, wait: bool = True, generation: int = 1) -> SubmissionWithTargets:
        [planned] = plan(urls, generation=generation)
        claimed = ledger.submissions.claim(planned, run_id="run", fingerprint="f")
        assert claimed
        job = client.create_job(JobRequest(targets=list(planned.targets)))
        if wait:
            eventually(lambda: all(each.status in {"success", "error"} for each in emulator.jobs()))
        return ledger.submissions.mark_finished(ledger.submissions.mark_submitted(claimed, job.job_id, job.task_ids))

    return finish


@pytest.fixture
def collected(
    ledger: Ledger, async_client: Callable[..., AsyncScrapeDoAsyncAPIClient], tables: PartitionTables
) -> Collect:
    def collected(
        submission: SubmissionWithTargets, *, client: Any = None, into: PartitionTables = tables, **settings: Any
    ) -> None:
        async def main() -> None:
            async with client or async_client() as connected:
                await collect_batch(ledger, connected, into, submission, **settings)

        asyncio.run(main())

    return collected


class Changed(AsyncScrapeDoAsyncAPIClient):
    """A client that changes some tasks of the service: `changes` by the end of the URL."""

    changes: dict[str, Any] = {}
    asked: list[str] = []

    async def get_task(self, job_id: str, task_id: str, **options: Any) -> TaskDetails:
        task = await super().get_task(job_id, task_id, **options)
        self.asked.append(task.url)
        for end, change in self.changes.items():
            if task.url.endswith(end):
                if isinstance(change, Exception):
                    raise change
                return task.model_copy(update=change)
        return task


@pytest.fixture
def changed(emulator: Emulator, token: str) -> Callable[..., Changed]:
    def changed(**changes: Any) -> Changed:
        client = Changed(token, base_url=emulator.base_url)
        client.changes = {f"/{name.lstrip('n')}": change for name, change in changes.items()}
        client.asked = []
        return client

    return changed


def test_each_target_has_its_own_result(
    finish: Finish,
    collected: Collect,
    written: Callable[..., Any],
    emulator: Emulator,
    urls: Urls,
    ledger: Ledger,
    changed: Callable[..., Changed],
) -> None:
    targets = [*urls(1, 2), f"{urls(1)[0]}/none", *urls(4, 5, 6, 7, 8), "http://127.0.0.1:1/"]
    faults = {
        "targets": [
            {"kind": "error", "match": "*/products/2", "message": "no luck"},
            {"kind": "missing", "match": "*/products/4"},
            {"kind": "gone", "match": "*/products/5"},
        ]
    }
    emulator.set_faults(faults)
    submission = finish(targets)
    bad = {"base64_encoded_content": True, "content": "not base64!"}
    client = changed(n6=bad, n7={"content": None}, n8={"status": "canceled", "content": None})
    collected(submission, client=client)
    rows = written(1)
    assert [row["url"] for row in rows] == targets
    assert [row["status"] for row in rows] == [
        *["success", "error", "success", "expired", "gone"],
        *["success", "success", "canceled", "error"],
    ]
    assert [row["status_code"] for row in rows[:3]] == [200, 502, 404]
    assert [row["content"] is not None for row in rows] == [True, False, True, *[False] * 6]
    reasons = [row["error_message"] for row in rows]
    assert reasons[0] is None
    assert reasons[1] == "no luck"
    assert "404" in reasons[3]
    assert "410" in reasons[4]
    assert "marked as base64" in reasons[5]
    assert "has no content" in reasons[6]
    assert all(reasons[3:])
    done = ledger.submissions.get(submission.id)
    assert (done.state, done.succeeded, done.credits) == (State.COLLECTED, 4, 5)


def test_an_empty_page_is_a_result(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, changed: Callable[..., Changed]
) -> None:
    collected(finish(urls(1)), client=changed(n1={"content": "", "base64_encoded_content": False}))
    [row] = written(1)
    assert (row["status"], row["content"], row["content_length"]) == ("success", b"", 0)


def test_base64_is_decoded_by_its_flag_alone(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, changed: Callable[..., Changed]
) -> None:
    text = base64.b64encode(b"\x00\xff").decode()
    client = changed(
        n1={"content": text, "base64_encoded_content": True}, n2={"content": text, "base64_encoded_content": False}
    )
    collected(finish(urls(1, 2)), client=client)
    assert [row["content"] for row in written(1)] == [b"\x00\xff", text.encode()]


def test_entries_of_one_url_are_rows_each_and_paid_once(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, ledger: Ledger
) -> None:
    submission = finish(urls(1, 2, 1, 1))
    collected(submission)
    rows = written(1)
    assert [row["url"] for row in rows] == urls(1, 2, 1, 1)
    assert [row["credits_used"] for row in rows] == [1, 1, 0, 0]
    assert ledger.submissions.get(submission.id).credits == 2 == sum(job.credits for job in emulator.jobs())
    assert emulator.requests()["get_task"] == 2


def test_the_targets_of_a_deleted_job_are_rows_with_the_reason(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator
) -> None:
    submission = finish(urls(1, 2))
    emulator.advance(timedelta(days=4))
    collected(submission)
    assert [row["status"] for row in written(1)] == ["expired", "expired"]
    assert all("404" in row["error_message"] for row in written(1))


def test_only_failed_targets_are_planned_again(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, ledger: Ledger
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2"}]})
    first = finish(urls(1, 2, 3, 2))
    collected(first, retries=1)
    assert [row["url"] for row in written(1)] == urls(1, 3)
    [_, again] = ledger.submissions.with_targets(first.ref, 1)
    assert (again.state, again.attempt, again.targets) == (State.PLANNED, 1, tuple(urls(2)))
    assert [entry.position for entry in again.entries] == [1, 3]


def test_the_error_page_of_a_retried_target_is_not_written(
    finish: Finish, collected: Collect, tables: PartitionTables, urls: Urls, changed: Callable[..., Changed]
) -> None:
    budget = MemoryBudget()
    page = {"status": "error", "content": "<html>Sorry</html>", "base64_encoded_content": False}
    collected(finish(urls(1, 2)), client=changed(n2=page), retries=1, budget=budget)
    [part] = tables.contents.parts("mon")
    assert pq.read_table(part.path)["url"].to_pylist() == urls(1)
    assert budget.held == 0


def test_the_last_attempt_is_a_row(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, ledger: Ledger
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2"}]})
    collected(finish(urls(1, 2)), retries=0)
    assert [row["status"] for row in written(1)] == ["success", "error"]
    assert len(ledger.submissions.find()) == 1


@pytest.fixture
def broken(emulator: Emulator) -> dict[str, Any]:
    """The fault of one task of three that can never be read."""
    return {"endpoint": "get_task", "kind": "status", "status": 200, "body": "html", "match": "*/products/2"}


def test_a_task_that_cannot_be_read_fails_the_batch_which_is_collected_later(
    finish: Finish,
    collected: Collect,
    written: Callable[..., Any],
    urls: Urls,
    emulator: Emulator,
    broken: dict[str, Any],
    ledger: Ledger,
) -> None:
    submission = finish(urls(1, 2, 3))
    emulator.set_faults({"calls": [broken]})
    with pytest.raises(UnparsableResponseError, match="could not be read"):
        collected(submission)
    assert written(1) == []
    assert ledger.submissions.get(submission.id) == submission
    emulator.set_faults({})
    collected(submission)
    assert [row["status"] for row in written(1)] == ["success"] * 3


@pytest.mark.parametrize(
    "how", [{}, {"kind": "status", "status": 500, "body": "json"}, {"kind": "drop", "status": None, "body": None}]
)
def test_near_expiry_a_task_that_cannot_be_read_is_a_row(
    finish: Finish,
    collected: Collect,
    written: Callable[..., Any],
    urls: Urls,
    emulator: Emulator,
    broken: dict[str, Any],
    ledger: Any,
    how: dict[str, Any],
) -> None:
    submission = finish(urls(1, 2, 3))
    emulator.set_faults({"calls": [{name: value for name, value in (broken | how).items() if value is not None}]})
    ledger.ahead = timedelta(hours=47)
    with pytest.raises(ScrapeDoError):
        collected(submission)
    ledger.ahead = timedelta(hours=49)
    collected(submission)
    assert [row["status"] for row in written(1)] == ["success", "unreadable", "success"]
    assert written(1)[1]["error_message"]
    assert written(1)[1]["task_id"]


def test_near_expiry_a_batch_of_which_nothing_can_be_read_fails(
    finish: Finish,
    collected: Collect,
    written: Callable[..., Any],
    urls: Urls,
    emulator: Emulator,
    broken: dict[str, Any],
    ledger: Any,
) -> None:
    submission = finish(urls(1, 2, 3))
    emulator.set_faults({"calls": [{**broken, "match": "*"} | {"endpoint": "get_task"}]})
    ledger.ahead = timedelta(hours=60)
    with pytest.raises(UnparsableResponseError):
        collected(submission)
    assert written(1) == []
    assert ledger.submissions.get(submission.id).state == State.FINISHED


def test_tasks_may_end_a_moment_after_their_job(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "status": "pending", "seconds": 400, "match": "*/products/2"}]})
    collected(finish(urls(1, 2), wait=False))
    assert [row["status"] for row in written(1)] == ["success", "success"]


QUICK = CollectLimits(task_end_delay=0.3)


def test_a_task_that_never_ends_is_a_row(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, token: str
) -> None:
    class Ended(AsyncScrapeDoAsyncAPIClient):
        async def get_job(self, job_id: str) -> Any:
            return (await super().get_job(job_id)).model_copy(update={"status": "success"})

    emulator.set_faults({"targets": [{"kind": "linger", "status": "verifying", "match": "*/products/2"}]})
    collected(finish(urls(1, 2), wait=False), client=Ended(token, base_url=emulator.base_url), limits=QUICK)
    assert [row["status"] for row in written(1)] == ["success", "verifying"]
    assert "still 'verifying'" in written(1)[1]["error_message"]


def test_a_running_job_is_not_collected_even_if_it_is_recorded_as_finished(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, ledger: Ledger
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "status": "verifying", "match": "*/products/2"}]})
    submission = finish(urls(1, 2), wait=False)
    with pytest.raises(JobNotEndedError, match="is still 'verifying'"):
        collected(submission, limits=QUICK)
    assert (written(1), ledger.submissions.get(submission.id).state) == ([], State.FINISHED)


class FullTable(ParquetTable):
    """A table on a full disk. `moment` is the write that fails: of rows, or of the last row group."""

    moment = "write"

    @contextmanager
    def open_part(self, partition: str | None, generation: int, index: int) -> Iterator[PartWriter]:
        with super().open_part(partition, generation, index) as part:
            if self.moment == "write":
                yield FullPart()  # type: ignore[misc]
            else:
                yield part
                raise OSError(errno.ENOSPC, "No space left on device")


class FullPart:
    def write(self, _rows: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full(tmp_path: Path) -> Callable[..., FullTable]:
    """One of the two tables, on a full disk."""

    def full(name: str, moment: str = "write") -> FullTable:
        schema = {"tasks": TASKS_SCHEMA, "contents": CONTENTS_SCHEMA}[name]
        table = FullTable(ParquetStore(str(tmp_path / "data")), ["shop", name], schema)
        table.moment = moment
        return table

    return full


@pytest.fixture
def previous(finish: Finish, collected: Collect, tables: PartitionTables, urls: Urls) -> Callable[[], list[str]]:
    """A complete generation; what a reader of the partition gets."""
    collected(finish(urls(1, 2)))
    tables.complete(1, [0])

    def read() -> list[str]:
        of_tasks, of_contents = (
            sorted(table.dataset(["mon"]).to_table(columns=["url"])["url"].to_pylist())
            for table in (tables.tasks, tables.contents)
        )
        assert of_tasks == of_contents
        return of_tasks

    assert read() == urls(1, 2)
    return read


@pytest.mark.parametrize("table", ["tasks", "contents"])
@pytest.mark.parametrize("moment", ["write", "last row group"])
def test_a_full_disk_leaves_the_previous_data_and_the_ledger_unchanged(
    finish: Finish,
    collected: Collect,
    previous: Callable[[], list[str]],
    full: Callable[..., FullTable],
    tables: PartitionTables,
    ledger: Ledger,
    urls: Urls,
    moment: str,
    table: str,
) -> None:
    submission = finish(urls(3, 4, 5), generation=2)
    with pytest.raises(OSError, match="No space left"):
        collected(submission, into=replace(tables, **{table: full(table, moment)}))
    assert previous() == urls(1, 2)
    assert ledger.submissions.get(submission.id) == submission
    assert tables.lost([submission]) == [submission]
    collected(submission)
    tables.complete(2, [0])
    assert previous() == urls(3, 4, 5)


COLLECTOR = """
import asyncio, sys
from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.engine.collection.batch_collector import collect_batch
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA

url, ledger_url, data, token, submission_id = sys.argv[1:]
store = ParquetStore(data)
tasks, contents = store.table(["shop", "tasks"], TASKS_SCHEMA), store.table(["shop", "contents"], CONTENTS_SCHEMA)
tables = PartitionTables(tasks, contents, "mon")

async def main():
    ledger = Ledger(ledger_url)
    async with AsyncScrapeDoAsyncAPIClient(token, base_url=url) as client:
        await collect_batch(ledger, client, tables, ledger.submissions.get(int(submission_id)))

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_file_size_limit_of_the_system_leaves_the_previous_data(
    finish: Finish,
    collected: Collect,
    previous: Callable[[], list[str]],
    tables: PartitionTables,
    ledger: Ledger,
    ledger_url: str,
    emulator: Emulator,
    token: str,
    urls: Urls,
    tmp_path: Path,
) -> None:
    submission = finish(urls(3, 4, 5), generation=2)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then write fails with EFBIG, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (4500, 4500))

    ledger.close()
    arguments = [emulator.base_url, ledger_url, str(tmp_path / "data"), token, str(submission.id)]
    run = subprocess.run(
        [sys.executable, "-c", COLLECTOR, *arguments], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "File too large" in run.stderr or "disk I/O error" in run.stderr or "disk is full" in run.stderr
    assert previous() == urls(1, 2)
    assert ledger.submissions.get(submission.id) == submission
    assert not list((tmp_path / "data").rglob(".*.tmp"))
    collected(submission)
    tables.complete(2, [0])
    assert previous() == urls(3, 4, 5)


@pytest.mark.parametrize("most", [60_000, 1])
def test_the_bytes_in_memory_are_bounded(
    finish: Finish, collected: Collect, tables: PartitionTables, site: Any, most: int
) -> None:
    budget = MemoryBudget(most)
    submission = finish([f"{site.base_url}/2026-01-01/products/{1 + n % 8}?{n}" for n in range(150)])
    collected(submission, budget=budget, limits=CollectLimits(chunk_bytes=10_000))
    tables.complete(1, [0])
    sizes = [len(content) for content in tables.contents.dataset(["mon"]).to_table()["content"].to_pylist()]
    assert len(sizes) == 150
    assert budget.held == 0
    # The chunk that is passed on next may exceed the limit: 10,000 bytes of content, each result with its row.
    next_chunk = 10_000 / min(sizes) * (4000 + max(sizes))
    assert budget.peak < most + next_chunk
    assert 2 * (most + next_chunk) < sum(4000 + size for size in sizes), "the test has too few results"


def test_tasks_that_have_no_url_are_matched(
    finish: Finish,
    collected: Collect,
    written: Callable[..., Any],
    urls: Urls,
    emulator: Emulator,
    token: str,
) -> None:
    class WithoutTasks(AsyncScrapeDoAsyncAPIClient):
        async def get_job(self, job_id: str) -> Any:
            return (await super().get_job(job_id)).model_copy(update={"tasks": (), "task_ids": ()})

    emulator.set_faults({"wire": {"shuffle_task_ids": True}})
    collected(finish(urls(1, 2, 3)), client=WithoutTasks(token, base_url=emulator.base_url))
    shown = {job.task_ids[n]: job.targets[n] for job in emulator.jobs() for n in range(3)}
    assert [shown[row["task_id"]] for row in written(1)] == urls(1, 2, 3)


def test_targets_without_a_task_are_rows(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, token: str
) -> None:
    class Less(AsyncScrapeDoAsyncAPIClient):
        async def get_job(self, job_id: str) -> Any:
            job = await super().get_job(job_id)
            return job.model_copy(update={"tasks": job.tasks[:1], "task_ids": job.task_ids[:1]})

    submission = finish(urls(1, 2))

    collected(replace(submission, task_ids=submission.task_ids[:1]), client=Less(token, base_url=emulator.base_url))
    assert [row["status"] for row in written(1)] == ["success", "missing"]
    assert (submission.job_id or "x") in written(1)[1]["error_message"]


def test_lost_files_are_written_again_without_rows_of_other_batches(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, ledger: Ledger
) -> None:
    emulator.set_faults({"targets": [{"kind": "error", "match": "*/products/2"}]})
    first = finish(urls(1, 2))
    collected(first, retries=1)
    before = written(1)
    collected(ledger.submissions.get(first.id), leave_out=frozenset([1]), retries=1)
    assert written(1) == before
    assert len(ledger.submissions.find()) == 2


def test_a_batch_that_another_worker_recorded_is_not_recorded_again(
    finish: Finish, collected: Collect, urls: Urls, ledger: Ledger
) -> None:
    submission = finish(urls(1))
    collected(submission)
    with pytest.raises(AlreadyCollectedError):
        collected(submission)


def test_a_slower_worker_does_not_replace_rows_by_expired_ones(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, ledger: Ledger, emulator: Emulator
) -> None:
    submission = finish(urls(1, 2))
    collected(submission)
    emulator.advance(timedelta(days=4))
    with pytest.raises(AlreadyCollectedError):
        collected(submission)  # as it was before the other worker recorded it
    assert [row["status"] for row in written(1)] == ["success", "success"]


def test_a_failed_disk_is_reported_even_if_no_memory_is_left(
    finish: Finish, collected: Collect, full: Callable[..., FullTable], tables: PartitionTables, urls: Urls
) -> None:
    into, limits = replace(tables, contents=full("contents")), CollectLimits(chunk_bytes=1)
    with pytest.raises(OSError, match="No space left"):
        collected(finish(urls(*range(1, 40))), into=into, budget=MemoryBudget(10_000), limits=limits)


def test_a_deleted_result_is_not_submitted_again(
    finish: Finish, collected: Collect, written: Callable[..., Any], urls: Urls, emulator: Emulator, ledger: Ledger
) -> None:
    emulator.set_faults(
        {"targets": [{"kind": "gone", "match": "*/products/1"}, {"kind": "error", "match": "*/products/2"}]}
    )
    collected(finish(urls(1, 2, 3)), retries=1)
    assert [row["status"] for row in written(1)] == ["gone", "success"]
    assert [each.targets for each in ledger.submissions.find(states=[State.PLANNED])] == [tuple(urls(2))]
