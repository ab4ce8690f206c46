"""The benchmarks run, clients can read their service, and the page lists missed goals. No test measures time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scrape_do.async_api import ScrapeDoAsyncAPIClient as PublicClient

from scrapedo_dagster.api import JobRequest, JobsQuery, ScrapeDoAsyncAPIClient

pytestmark = pytest.mark.slow  # they start processes

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SIZE = 1_000


@pytest.fixture(autouse=True)
def are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def service() -> Iterator[Any]:
    with importlib.import_module("local_service").Service(size=SIZE) as service:
        yield service


def test_every_benchmark_is_run_and_can_be_run_alone() -> None:
    alone = {
        path.stem for path in BENCHMARKS.glob("*.py") if "main(measure, " in path.read_text().split("__main__")[-1]
    }
    run = importlib.import_module("run")
    assert set(run.BENCHMARKS) == alone
    assert all(callable(importlib.import_module(name).measure) for name in run.BENCHMARKS)


@pytest.mark.parametrize("is_base64", [False, True])
def test_clients_read_the_service(service: Any, is_base64: bool) -> None:
    service.set(base64=is_base64)
    targets = importlib.import_module("local_service").urls(12)

    class Public(PublicClient):
        BASE_URL = service.url

    with ScrapeDoAsyncAPIClient("benchmark", base_url=service.url) as ours, Public("benchmark") as public:
        results = [ours.submit_and_wait(JobRequest(targets=targets)), public.submit_and_wait(targets=targets)]
        for result in results:
            assert [task.url for task in result.tasks] == targets
            contents = [task.decoded_content() for task in result.tasks]
            assert len({bytes(content or b"") for content in contents}) == len(targets)
            assert {len(content or b"") for content in contents} == {SIZE}
            assert {(task.status, task.status_code, task.duration is not None) for task in result.tasks} == {
                ("success", 200, True)
            }
        assert [task.credits_used for task in results[0].tasks] == [1] * 12
        assert [job.job_id for job in ours.iter_jobs(JobsQuery(page_size=1))] == [
            result.job.job_id for result in reversed(results)
        ]
        assert ours.cancel_job(results[0].job.job_id).canceled
        assert (ours.get_user_info().available_credits or 0) > 100_000
    counts = service.counts()
    assert (counts.requests["create"], counts.requests["task"], counts.requests["jobs"]) == (2, 24, 2)
    assert counts.connections >= 2


def test_jobs_that_were_there_are_listed_and_open(service: Any) -> None:
    names = importlib.import_module("local_service")
    service.set(jobs=150, tasks=2, status="pending")
    with ScrapeDoAsyncAPIClient("benchmark", base_url=service.url) as client:
        assert {job.job_id for job in client.iter_jobs()} == {names.job_id(number) for number in range(150)}
        job = client.get_job(names.job_id(149))
    assert list(job.task_ids) == names.task_ids(job.job_id, 2)
    assert not job.is_terminal


@pytest.mark.parametrize("variant", ["ours", "ours_whole", "sdk", "sdk_loop", "reading", "same_work"])
def test_a_variant_collects_all_pages(service: Any, variant: str) -> None:
    meter = importlib.import_module("harness").Meter()
    body = importlib.import_module("collect_variants").BODIES[variant]
    counted = body(meter, url=service.url, tasks=5, size=SIZE, concurrency=2)  # exits if a page is missing
    assert counted["requests"]["task"] == 5
    assert meter.wall > 0
    assert meter.peak > 0


def test_a_page_that_is_missing_or_cut_is_noticed(service: Any) -> None:
    bodies, meter = importlib.import_module("collect_variants").BODIES, importlib.import_module("harness").Meter()
    with pytest.raises(SystemExit, match="found 2 rows of \\[1000\\] bytes"):
        bodies["same_work"](meter, url=service.url, tasks=2, size=SIZE + 1)


@pytest.mark.parametrize("changed", [{}, {"codec": "none"}, {"codec": "zstd", "level": 9}, {"row_group": 1}])
def test_the_writer_is_measured_with_other_settings(changed: dict[str, Any]) -> None:
    import pyarrow.parquet as pq

    from scrapedo_dagster.engine.storage import row_groups as parquet_part

    before = (pq.ParquetWriter, parquet_part.ROW_GROUP_BYTES)
    parquet = importlib.import_module("parquet")
    meter = importlib.import_module("harness").Meter()
    ours = parquet.ours(meter, rows=20, **changed)
    assert ours["rows"] == parquet.with_pandas(meter, rows=20)["rows"] == 2
    assert (ours["file"] > ours["rows"]) == (changed.get("codec") == "none")
    assert (pq.ParquetWriter, parquet_part.ROW_GROUP_BYTES) == before


def test_a_fresh_process_measures_a_body_and_is_small_before_it() -> None:
    fresh = importlib.import_module("harness").fresh
    measured = fresh(str(BENCHMARKS / "parquet.py"), "ours", rows=20)
    assert measured.result["rows"] == 2
    assert measured.wall > 0
    assert 0 < measured.before <= measured.peak


def test_the_page_lists_missed_goals(tmp_path: Path) -> None:
    harness, run = importlib.import_module("harness"), importlib.import_module("run")
    panel = harness.Panel("50 KB pages", "at once", "tasks/s")
    fast = harness.Figure("fast", "tasks/s", (30.0, 40.0, 50.0), "peer", (10.0,), (harness.Goal("at least", 4),))
    slow = harness.Figure("slow", "s", (3.0, 1.0), goals=(harness.Goal("at most", 1.5, "value"),))
    curves = (harness.Curve(panel, "ours", ((1, (1.0, 2.0)), (8, (5.0,)))),)
    section = harness.Section("Both", "What it means.", (fast, slow), curves=curves)
    page = run.page([section], "# Performance")
    assert "1 of 2 goals are reached. Missed:\n\n- slow: 2 s, should be at most 1.5." in page
    assert "ratio at least 4: reached" in page
    assert "3 - 5" in page
    run.draw(curves, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
