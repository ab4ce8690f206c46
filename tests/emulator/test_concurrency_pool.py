import asyncio
from datetime import datetime, timezone

from scrapedo_dagster.emulator.concurrency_pool import ConcurrencyPool
from scrapedo_dagster.emulator.job_body import parse_job_body
from scrapedo_dagster.emulator.state import Job, Task, TaskOutcome

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


async def test_an_ended_task_occupies_no_slot_while_its_runner_ends() -> None:
    winding_up, done = asyncio.Event(), asyncio.Event()

    async def run(task: Task) -> None:
        task.end(TaskOutcome("success"), NOW)
        winding_up.set()
        await done.wait()

    body = {"Targets": ["http://127.0.0.1/"]}
    job = Job(request=parse_job_body(body), raw=body, created=NOW)
    pool = ConcurrencyPool(1, run, on_crash=lambda _task, _error: None)
    pool.add([Task(job, 0, "http://127.0.0.1/")])
    assert (pool.acquired(job), pool.free) == (1, 0)
    await winding_up.wait()
    assert (pool.acquired(job), pool.free) == (0, 1)
    done.set()
    await pool.close()
