"""A thousand open jobs, and services that hang, refuse or forget: a tick ends in time, and ticks miss nothing."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import dagster as dg
import pytest
import sqlalchemy as sa

from scrapedo_dagster import ScrapeDoDataset
from scrapedo_dagster.engine.clock import Clock
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.url import default_url
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.execution.tick_session import TickLimits

pytestmark = pytest.mark.slow

Shop = Callable[..., ScrapeDoDataset]
Tick = Callable[..., Any]
Plant = Callable[..., list[str]]


@dataclass
class Service:
    """Jobs as the service knows them, without tasks: quick enough for thousands.

    Attributes:
        jobs: the status of each.
        lists_running: whether a listing by time has jobs that have not ended.
        pages_take: seconds for each page of a listing.
        trouble: what is answered instead, if anything: a status and a body, or "hang".
        asked: what was asked for, in order: job ids, "list", and "cancel" with a job id.
    """

    jobs: dict[str, str] = field(default_factory=dict)
    lists_running: bool = True
    pages_take: float = 0.0
    trouble: Callable[[str, str], tuple[int, bytes] | str | None] = lambda _method, _path: None
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        job_id = path.removeprefix("/api/v1/jobs").removeprefix("/")
        self.asked.append(f"cancel {job_id}" if method == "DELETE" else job_id or "list")
        trouble = self.trouble(method, job_id)
        if trouble == "hang":
            self.released.wait(30)
            return 500, b""
        if isinstance(trouble, tuple):
            return trouble
        if job_id:
            found = job_id in self.jobs
            return (
                (200, json.dumps(self._job(job_id)).encode()) if found else (404, b'{"Error": "no job", "Code": 404}')
            )
        time.sleep(self.pages_take)
        listed = [each for each, status in self.jobs.items() if self.lists_running or status == "success"]
        size, page = (int(query.get(name, ["1"])[0]) for name in ("page_size", "page"))
        body = {
            "Jobs": [self._job(each) for each in listed[(page - 1) * size : page * size]],
            "TotalCount": len(listed),
            "PageSize": size,
            "PageNumber": page,
            "TotalPages": -(-len(listed) // size),
        }
        return 200, json.dumps(body).encode()

    def _job(self, job_id: str) -> dict[str, Any]:
        return {"JobID": job_id, "Status": self.jobs[job_id], "TaskIDs": ["t"], "StartTime": "2026-01-01T00:00:00Z"}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # headers and body in one packet

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                status, body = service.answer(self.command, unquote(url.path), parse_qs(url.query))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_arguments: Any) -> None:
                pass

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

        return Handler


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def service_url(service: Service) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), service.handler())
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    service.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


class Planted(Ledger):
    """A ledger at another time."""

    age = timedelta()

    def now(self) -> datetime:
        return datetime.now(timezone.utc) - self.age


@pytest.fixture
def plant(instance: dg.DagsterInstance, service: Service, token: str) -> Plant:
    """Submitted batches in the ledger and their jobs at the service. Returns the ids of the jobs."""

    def plant(
        partition: str | None, amount: int, *, age: timedelta = timedelta(), status: str = "pending", run: str = "run"
    ) -> list[str]:
        planted = Planted(default_url(instance.root_directory))
        planted.age = age
        ref = PartitionRef(account_fingerprint(token), "shop", partition)
        batches = [
            validated_entries([f"https://shop.example/{partition}/{number}"], "raise") for number in range(amount)
        ]
        assert planted.generations.plan(ref, 1, batches, fingerprint="f", run_id=run)
        ids = []
        for submission in planted.submissions.with_targets(ref, 1):
            claimed = planted.submissions.claim(submission, run_id=run, fingerprint="f")
            assert claimed is not None
            ids.append(f"job-{partition}-{submission.batch}")
            planted.submissions.mark_submitted(claimed, ids[-1], ["t"])
        planted.close()
        service.jobs |= dict.fromkeys(ids, status)
        return ids

    return plant


class ServiceClock(Clock):
    """Time passes only by what the service takes, so that a tick has the same budget on any machine."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def take(self, seconds: float) -> None:
        self.now += seconds


SHORT = TickLimits(seconds=1.0, request_timeout=0.1, cancel_seconds=0.25)


@pytest.fixture
def changes() -> Iterator[list[str]]:
    """The statements by which any ledger changes its tables, each in a transaction of its own."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE scrapedo_"):
            seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def states(ledger: Ledger) -> Counter[State]:
    return Counter(each.state for each in ledger.submissions.find())


@pytest.mark.slow
def test_a_thousand_open_jobs_are_polled_in_one_tick_with_few_requests_and_transactions(
    shop: Shop, tick: Tick, plant: Plant, service: Service, ledger: Ledger, changes: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for key in "abcd":
        plant(key, 250)
    dataset = shop()
    began = time.monotonic()
    found = tick(dataset)
    with capsys.disabled():
        print(f"\n1000 open jobs: {len(service.asked)} requests, {time.monotonic() - began:.2f} s")
    assert found.run_requests == []
    assert "1000 jobs are open" in found.skip_message
    assert len(service.asked) <= 15
    changes.clear()
    service.jobs = dict.fromkeys(service.jobs, "success")
    began = time.monotonic()
    [request] = tick(dataset, cursor=found.cursor).run_requests
    with capsys.disabled():
        print(f"1000 jobs that have ended: {time.monotonic() - began:.2f} s")
    assert request.tags["dagster/asset_partition_range_end"] == "d"
    assert states(ledger) == {State.FINISHED: 1000}
    assert len(changes) == 3, "two for 500 jobs each, and one for the run"


def test_many_reported_partitions_cost_one_query_and_one_transaction(
    shop: Shop, tick: Tick, ledger: Ledger, token: str, instance: dg.DagsterInstance, changes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    keys = [f"p{number:02}" for number in range(40)]
    for key in keys:
        ref = PartitionRef(account_fingerprint(token), "shop", key)
        assert ledger.generations.plan(
            ref, 2, [validated_entries(["https://shop.example/"], "raise")], fingerprint="f", run_id=key
        )
        ledger.generations.mark_completed(ref, 2)
    dataset = shop(partitions_def=dg.StaticPartitionsDefinition(keys))

    def report(key: str, generation: int) -> None:
        metadata = {"scrapedo/generation": generation}
        event = dg.AssetMaterialization(dataset.dataset.contents_key, partition=key, metadata=metadata)
        instance.report_runless_asset_event(event)

    for key in keys:
        report(key, 1)
    assert len(tick(dataset).run_requests) == 1, "only an older generation is reported"
    for key in keys[:-1]:
        report(key, 2)
    report(keys[0], 2)  # twice, which leaves no room for the event of another in the answer to one query
    asked: list[int] = []
    real = instance.fetch_materializations

    def count(*arguments: Any, **named: Any) -> Any:
        asked.append(named["limit"])
        return real(*arguments, **named)

    monkeypatch.setattr(instance, "fetch_materializations", count)
    changes.clear()
    tick(dataset)
    assert (asked, len(changes)) == ([40, 1], 1)
    [left] = ledger.generations.unconfirmed(account_fingerprint(token), ["shop"])
    assert left.ref.partition == keys[-1]


def test_jobs_that_no_listing_has_are_all_polled_within_a_few_ticks(
    shop: Shop, tick: Tick, plant: Plant, service: Service, tick_log: list[str]
) -> None:
    dataset, cursor, ticks, clock = shop(), None, 0, ServiceClock()
    tick(dataset)  # the first one in a process loads the engine
    young, old = plant("a", 120), plant("b", 5, age=timedelta(days=2, hours=2))
    service.lists_running = False
    service.trouble = lambda _method, _job_id: clock.take(0.01)
    while not set(young) <= set(service.asked):
        service.asked.clear() if not ticks else None
        ticks += 1
        before = len(service.asked)
        cursor = tick(dataset, cursor=cursor, limits=TickLimits(seconds=0.6), clock=clock).cursor
        assert len(service.asked) - before <= 61, "0.6 seconds of it, and the request that was under way"
        asked = [each for each in service.asked[before:] if each != "list"]
        assert set(asked[:5]) == set(old)  # near expiry first
        assert ticks < 30
    assert ticks > 1
    assert any("The next tick polls the others." in line for line in tick_log)
    counts = Counter(each for each in service.asked if each in young)
    assert max(counts.values()) <= 2


def test_one_job_that_cannot_be_read_keeps_no_other_from_being_polled(
    shop: Shop, tick: Tick, plant: Plant, service: Service, ledger: Ledger, tick_log: list[str]
) -> None:
    plant("a", 4)
    service.jobs = dict.fromkeys(service.jobs, "success")
    service.trouble = lambda _method, job_id: (500, b"<html>") if job_id == "job-a-0" else None
    dataset = shop()
    tick(dataset)
    assert states(ledger) == {State.SUBMITTED: 1, State.FINISHED: 3}
    assert any("500" in line for line in tick_log)


def test_jobs_that_a_listing_lacks_are_requested_one_by_one(
    shop: Shop, tick: Tick, plant: Plant, service: Service, ledger: Ledger
) -> None:
    plant("a", 12, status="success")
    page = {"Jobs": [{"JobID": "job-a-0", "Status": "success"}], "TotalCount": 12, "TotalPages": 1}
    service.trouble = lambda _method, job_id: None if job_id else (200, json.dumps(page).encode())
    assert len(tick(shop()).run_requests) == 1
    assert states(ledger) == {State.FINISHED: 12}


def test_a_listing_that_is_too_long_for_a_tick_leaves_time_to_ask_for_each(
    shop: Shop, tick: Tick, plant: Plant, service: Service, ledger: Ledger
) -> None:
    """An account that others use too lists tens of thousands of jobs."""
    service.jobs = {f"other-{number}": "success" for number in range(6000)}
    plant("a", 12, status="success")
    clock = ServiceClock()
    service.trouble = lambda _method, job_id: clock.take(0.01 if job_id else 0.05)
    dataset = shop()
    cursor = tick(dataset, limits=SHORT, clock=clock).cursor
    assert service.asked.count("list") <= 11, "half of the time"
    tick(dataset, cursor=cursor, limits=SHORT, clock=clock)
    assert states(ledger) == {State.FINISHED: 12}


@pytest.mark.parametrize(
    ("amount", "trouble"),
    [
        *[(3, "hang"), (12, "hang"), (3, (500, b"{}")), (12, (429, b"{}"))],
        *[(3, (401, b"{}")), (12, (200, b"<html>down for maintenance</html>"))],
    ],
)
def test_a_service_in_trouble_costs_a_tick_and_nothing_else(
    shop: Shop, tick: Tick, plant: Plant, service: Service, ledger: Ledger, tick_log: list[str],
    trouble: Any, amount: int,
) -> None:  # fmt: skip
    plant("a", amount)
    service.trouble = lambda _method, _job_id: trouble
    dataset = shop()
    began = time.monotonic()
    found = tick(dataset, limits=SHORT)
    assert time.monotonic() - began < 5
    assert (found.run_requests, states(ledger)) == ([], {State.SUBMITTED: amount})
    assert any("Scrape.do could not be asked" in line for line in tick_log)
    service.trouble = lambda _method, _job_id: None
    service.jobs = dict.fromkeys(service.jobs, "success")
    assert len(tick(dataset, cursor=found.cursor).run_requests) == 1


def test_jobs_that_cannot_be_canceled_keep_no_other_from_being_polled(
    shop: Shop, tick: Tick, plant: Plant, service: Service, instance: dg.DagsterInstance,
    resources: dict[str, Any], tick_log: list[str],
) -> None:  # fmt: skip
    dataset = shop()
    defs = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources))
    job = defs.resolve_job_def("shop_submit")
    for key in "abc":
        run = instance.create_run_for_job(job, tags={"dagster/partition": key}, status=dg.DagsterRunStatus.CANCELED)
        plant(key, 2, run=run.run_id)
    plant("d", 2, status="success")
    service.trouble = lambda method, _job_id: "hang" if method == "DELETE" else None
    began = time.monotonic()
    [request] = tick(dataset, limits=SHORT).run_requests
    assert time.monotonic() - began < 5
    assert request.partition_key == "d"
    assert any("2 are left for the next tick" in line for line in tick_log)


def test_jobs_that_could_not_be_canceled_are_canceled_in_a_later_tick(
    shop: Shop, tick: Tick, plant: Plant, service: Service, ledger: Ledger, instance: dg.DagsterInstance,
    resources: dict[str, Any],
) -> None:  # fmt: skip
    """Even if other jobs of the generation were canceled: it is not collected, and costs credits."""
    dataset = shop()
    job = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources)).resolve_job_def("shop_submit")
    run = instance.create_run_for_job(job, tags={"dagster/partition": "a"}, status=dg.DagsterRunStatus.CANCELED)
    _, stubborn, _ = plant("a", 3, run=run.run_id)
    service.trouble = lambda method, job_id: (500, b"{}") if (method, job_id) == ("DELETE", stubborn) else None
    assert tick(dataset).run_requests == []
    assert states(ledger) == {State.CANCELED: 2, State.SUBMITTED: 1}
    service.trouble = lambda _method, _job_id: None
    assert tick(dataset).run_requests == []
    assert states(ledger) == {State.CANCELED: 3}


@pytest.mark.parametrize("is_active", [True, False])
def test_jobs_of_a_replaced_generation_are_canceled_once_its_run_has_ended(
    shop: Shop, tick: Tick, plant: Plant, ledger: Ledger, instance: dg.DagsterInstance, resources: dict[str, Any],
    tick_log: list[str], is_active: bool,
) -> None:  # fmt: skip
    dataset = shop()
    job = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources)).resolve_job_def("shop_submit")
    status = dg.DagsterRunStatus.STARTED if is_active else dg.DagsterRunStatus.FAILURE
    run = instance.create_run_for_job(job, tags={"dagster/partition": "a"}, status=status)
    plant("a", 2, run=run.run_id)
    ref = ledger.submissions.find()[0].ref
    entries = validated_entries(["https://shop.example/new"], "raise")
    assert ledger.generations.plan(ref, 2, [entries], fingerprint="f", run_id=run.run_id)
    tick(dataset)
    assert states(ledger)[State.CANCELED] == (0 if is_active else 2)
    assert (
        any("a newer generation was begun; 2 of its open jobs were ended" in line for line in tick_log) is not is_active
    )


def test_many_partitions_of_as_many_runs_are_launched_together(
    shop: Shop, tick: Tick, ledger: Ledger, token: str, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"p{number:03}" for number in range(300)]
    for key in keys:
        ref = PartitionRef(account_fingerprint(token), "shop", key)
        assert ledger.generations.plan(
            ref, 1, [validated_entries([f"https://shop.example/{key}"], "raise")], fingerprint="f", run_id=key
        )
    dataset = shop(partitions_def=dg.StaticPartitionsDefinition(keys))
    began = time.monotonic()
    [request] = tick(dataset).run_requests
    seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"\n300 partitions of 300 runs: {seconds:.2f} s")
    assert request.tags["dagster/asset_partition_range_end"] == keys[-1]
    assert seconds < 10


@pytest.mark.slow
def test_ten_years_of_hours_are_computed_in_seconds(
    shop: Shop, tick: Tick, plant: Plant, instance: dg.DagsterInstance, resources: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    hours = dg.HourlyPartitionsDefinition(start_date="2016-01-01-00:00", end_date="2026-01-01-00:00")
    dataset = shop(partitions_def=hours)
    defs = dg.Definitions.merge(dataset.defs, dg.Definitions(resources=resources))
    job = defs.resolve_job_def("shop_collect")
    for day in (14, 15):
        edges = {"start": f"2017-01-{day}-00:00", "end": f"2017-01-{day}-23:00"}
        tags = {f"dagster/asset_partition_range_{edge}": key for edge, key in edges.items()}
        instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    for key in ("2017-01-15-03:00", "2025-12-31-21:00", "2025-12-31-22:00"):
        plant(key, 1, status="success")
    began = time.monotonic()
    [request] = tick(dataset).run_requests
    seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"\n87,672 partitions and two runs of ranges: {seconds:.2f} s")
    assert request.tags["dagster/asset_partition_range_start"] == "2025-12-31-21:00"
    assert seconds < 8
