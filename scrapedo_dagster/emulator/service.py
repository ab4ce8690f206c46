"""Implementation of the six operations. Runs on one event loop, which owns all state."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any

from scrapedo_dagster.emulator.clock import EmulatorClock
from scrapedo_dagster.emulator.concurrency_pool import ConcurrencyPool
from scrapedo_dagster.emulator.errors import ApiError
from scrapedo_dagster.emulator.fault_injector import FaultInjector
from scrapedo_dagster.emulator.faults import WireStyle
from scrapedo_dagster.emulator.fetcher import Fetcher
from scrapedo_dagster.emulator.job_body import parse_job_body
from scrapedo_dagster.emulator.job_listing import parse_list_query, select
from scrapedo_dagster.emulator.outgoing_transport import outgoing_transport
from scrapedo_dagster.emulator.plugins import plugin_url
from scrapedo_dagster.emulator.response_writer import ResponseWriter
from scrapedo_dagster.emulator.settings import EmulatorSettings
from scrapedo_dagster.emulator.state import Account, Job, Store, Task, TaskOutcome
from scrapedo_dagster.emulator.task_runner import TaskRunner
from scrapedo_dagster.emulator.webhook_sender import WebhookSender

_log = logging.getLogger(__name__)


class Service:
    """An account of Scrape.do. Each operation returns the JSON of its response or raises ApiError."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.clock = EmulatorClock()
        self.injector = FaultInjector(settings.faults)
        self.store = Store()
        self.account = Account(settings.starting_credits)
        self._random = random.Random(settings.faults.seed)
        self._transport = outgoing_transport(public_only=not settings.is_private)
        self._new_jobs: set[asyncio.Task[None]] = set()
        self._webhooks = WebhookSender(
            clock=self.clock,
            injector=self.injector,
            transport=self._transport,
            retry_seconds=settings.webhook_retry_seconds,
            scaled=settings.scaled,
            body_of=lambda task: self._writer.task(task),
        )
        runner = TaskRunner(
            settings=settings,
            clock=self.clock,
            injector=self.injector,
            store=self.store,
            account=self.account,
            fetcher=Fetcher(self._transport),
            finish=self._finish,
        )
        self._pool = ConcurrencyPool(settings.concurrency, runner.run, self._on_crash)

    async def create_job(self, body: Any) -> dict[str, Any]:
        """Handle `POST /jobs`: 400 for an invalid body, 401 without credits."""
        request = parse_job_body(body)
        if self.account.credits <= 0:
            raise ApiError(401, "Your account has no credits left")
        job = Job(request=request, raw=body, created=self.clock.now())
        urls = request.targets or []
        if request.plugin is not None:
            urls = [plugin_url(request.plugin.key, params) for params in request.plugin.params]
        self.store.add(job, urls)
        job.shown_task_ids = list(job.tasks)
        if self._wire_style.shuffle_task_ids:
            self._random.shuffle(job.shown_task_ids)
        new_job = asyncio.ensure_future(self._queue_tasks(job))
        self._new_jobs.add(new_job)
        new_job.add_done_callback(self._new_jobs.discard)
        return self._writer.created(job)

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Handle `GET /jobs/{jobID}`: 404 if the job is unknown or expired."""
        job = self._job(job_id)
        return self._writer.job(job, acquired=self._pool.acquired(job))

    def get_task(self, job_id: str, task_id: str) -> dict[str, Any]:
        """Handle `GET /jobs/{jobID}/{taskID}`: 404 if unknown or expired, 410 if the content is gone."""
        task = self._job(job_id).tasks.get(task_id)
        if task is None or self.injector.for_task("missing", task.task_id, task.url):
            raise ApiError(404, "Task not found")
        if self.injector.for_task("gone", task.task_id, task.url):
            raise ApiError(410, "Task response content is no longer available.")
        return self._writer.task(task)

    def list_jobs(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Handle `GET /jobs`: 400 for an invalid query. A page past the end is empty."""
        query = parse_list_query(params)
        found = select(self.store.jobs(self.clock.now()), query, self._wire_style)
        first = (query.page - 1) * query.page_size
        return self._writer.page(
            found[first : first + query.page_size],
            total=len(found),
            size=query.page_size,
            number=query.page,
        )

    async def cancel_job(self, job_id: str) -> dict[str, Any]:
        """Handle `DELETE /jobs/{jobID}`: 404 if the job is unknown, 406 if it has ended."""
        job = self._job(job_id)
        if job.canceled or job.is_finished:
            raise ApiError(406, "Job is already finished or canceled")
        job.canceled = True
        for task in job.tasks.values():
            self._finish(task, TaskOutcome("canceled"))
        await self._pool.drop(job)
        return self._writer.job(job, acquired=self._pool.acquired(job))

    def me(self) -> dict[str, Any]:
        """Handle `GET /me`. The misspelling of the credits is that of the live service."""
        active = sum(not job.is_finished for job in self.store.jobs(self.clock.now()))
        return {
            "TotalConcurrency": self._pool.size,
            "FreeConcurrency": self._pool.free,
            "ActiveJobs": active,
            "AvaliableCredits": self.account.credits,
        }

    def targets_of(self, job_id: str | None, task_id: str | None) -> list[str]:
        """Return the target URLs of a job or of one of its tasks; empty if unknown."""
        job = self.store.job(job_id, self.clock.now()) if job_id else None
        if job is None:
            return []
        return [task.url for task in job.tasks.values() if task_id in (None, task.task_id)]

    async def close(self) -> None:
        """Stop all work and close all connections."""
        new_jobs = list(self._new_jobs)
        for new_job in new_jobs:
            new_job.cancel()
        await asyncio.gather(*new_jobs, return_exceptions=True)
        await self._pool.close()
        await self._webhooks.close()
        await self._transport.aclose()

    @property
    def _wire_style(self) -> WireStyle:
        return self.injector.faults.wire

    @property
    def _writer(self) -> ResponseWriter:
        return ResponseWriter(self._wire_style)

    def _job(self, job_id: str) -> Job:
        job = self.store.job(job_id, self.clock.now())
        if job is None:
            raise ApiError(404, "Job not found")
        return job

    async def _queue_tasks(self, job: Job) -> None:
        """Add the tasks of a new job to the pool after its time in `queuing`."""
        await asyncio.sleep(self.settings.scaled(self.settings.queue_seconds))
        waiting = [task for task in job.tasks.values() if not task.is_terminal]
        for task in waiting:
            task.move("queued", self.clock.now())
        self._pool.add(waiting)

    def _finish(self, task: Task, outcome: TaskOutcome) -> None:
        """Set the outcome of a task, unless it has one, and end its job with its last task."""
        if task.is_terminal:
            return
        now = self.clock.now()
        task.end(outcome, now)
        job = task.job
        if not job.unfinished:
            job.ended = now
            fault = None if job.canceled else self.injector.for_job(job.job_id, self.targets_of(job.job_id, None))
            job.end_status = fault.end_status if fault else "canceled" if job.canceled else "success"
        self._webhooks.deliver(task)

    def _on_crash(self, task: Task, error: BaseException) -> None:
        _log.error("task failed: defect of the emulator", exc_info=error)
        self._finish(task, TaskOutcome("error", 510, error="the emulator failed; see its log"))
