"""The service behind the six operations. Runs on one event loop, on which all its state lives."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any

from scrapedo_dagster.emulator.addresses import outgoing
from scrapedo_dagster.emulator.chaos import Chaos
from scrapedo_dagster.emulator.clock import Clock
from scrapedo_dagster.emulator.errors import ApiError
from scrapedo_dagster.emulator.faults import WireStyle
from scrapedo_dagster.emulator.fetch import Fetcher
from scrapedo_dagster.emulator.listing import parse_list_query, select
from scrapedo_dagster.emulator.plugins import plugin_url
from scrapedo_dagster.emulator.pool import Pool
from scrapedo_dagster.emulator.settings import EmulatorSettings
from scrapedo_dagster.emulator.state import Account, Job, Store, Task, TaskOutcome
from scrapedo_dagster.emulator.validation import parse_job_request
from scrapedo_dagster.emulator.webhooks import Webhooks
from scrapedo_dagster.emulator.wire import Wire
from scrapedo_dagster.emulator.worker import Worker

_log = logging.getLogger(__name__)


class Service:
    """One account of Scrape.do. Each operation returns the JSON of its answer or raises ApiError."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.chaos = Chaos(settings.faults)
        self.store = Store()
        self.account = Account(settings.starting_credits)
        self._random = random.Random(settings.faults.seed)
        self._transport = outgoing(public_only=not settings.is_private)
        self._admissions: set[asyncio.Task[None]] = set()
        self._webhooks = Webhooks(
            clock=self.clock,
            chaos=self.chaos,
            transport=self._transport,
            retry_seconds=settings.webhook_retry_seconds,
            scaled=settings.scaled,
            body_of=lambda task: self._wire.task(task),
        )
        worker = Worker(
            settings=settings,
            clock=self.clock,
            chaos=self.chaos,
            store=self.store,
            account=self.account,
            fetcher=Fetcher(self._transport),
            finish=self._finish,
        )
        self._pool = Pool(settings.concurrency, worker.run, self._crashed)

    async def create_job(self, body: Any) -> dict[str, Any]:
        """`POST /jobs`: 400 for a body that breaks a rule, 401 when no credit is left."""
        request = parse_job_request(body)
        if self.account.credits <= 0:
            raise ApiError(401, "Your account has no credits left")
        job = Job(request=request, raw=body, created=self.clock.now())
        urls = request.targets or []
        if request.plugin is not None:
            urls = [plugin_url(request.plugin.key, params) for params in request.plugin.params]
        self.store.add(job, urls)
        job.echo = list(job.tasks)
        if self._wire_style.shuffle_task_ids:
            self._random.shuffle(job.echo)
        admission = asyncio.ensure_future(self._admit(job))
        self._admissions.add(admission)
        admission.add_done_callback(self._admissions.discard)
        return self._wire.created(job)

    def get_job(self, job_id: str) -> dict[str, Any]:
        """`GET /jobs/{jobID}`: 404 for a job that is unknown or expired."""
        job = self._job(job_id)
        return self._wire.job(job, acquired=self._pool.acquired(job))

    def get_task(self, job_id: str, task_id: str) -> dict[str, Any]:
        """`GET /jobs/{jobID}/{taskID}`: 404 for what is unknown or expired, 410 for content that is lost."""
        task = self._job(job_id).tasks.get(task_id)
        if task is None or self.chaos.for_task("missing", task.task_id, task.url):
            raise ApiError(404, "Task not found")
        if self.chaos.for_task("gone", task.task_id, task.url):
            raise ApiError(410, "Task response content is no longer available.")
        return self._wire.task(task)

    def list_jobs(self, params: Mapping[str, str]) -> dict[str, Any]:
        """`GET /jobs`: 400 for a query that breaks a rule. A page past the end is empty."""
        query = parse_list_query(params)
        found = select(self.store.jobs(self.clock.now()), query, self._wire_style)
        first = (query.page - 1) * query.page_size
        return self._wire.page(
            found[first : first + query.page_size],
            total=len(found),
            size=query.page_size,
            number=query.page,
        )

    async def cancel_job(self, job_id: str) -> dict[str, Any]:
        """`DELETE /jobs/{jobID}`: 404 for an unknown job, 406 for one that has ended."""
        job = self._job(job_id)
        if job.canceled or job.is_finished:
            raise ApiError(406, "Job is already finished or canceled")
        job.canceled = True
        for task in job.tasks.values():
            self._finish(task, TaskOutcome("canceled"))
        await self._pool.drop(job)
        return self._wire.job(job, acquired=self._pool.acquired(job))

    def me(self) -> dict[str, Any]:
        """`GET /me`. The credits are spelled as the live service spells them."""
        active = sum(not job.is_finished for job in self.store.jobs(self.clock.now()))
        return {
            "TotalConcurrency": self._pool.size,
            "FreeConcurrency": self._pool.free,
            "ActiveJobs": active,
            "AvaliableCredits": self.account.credits,
        }

    def targets_of(self, job_id: str | None, task_id: str | None) -> list[str]:
        """The target URLs that a call about this job or task concerns; empty when they are unknown."""
        job = self.store.job(job_id, self.clock.now()) if job_id else None
        if job is None:
            return []
        return [task.url for task in job.tasks.values() if task_id in (None, task.task_id)]

    async def close(self) -> None:
        """Stop all work and close all connections."""
        admissions = list(self._admissions)
        for admission in admissions:
            admission.cancel()
        await asyncio.gather(*admissions, return_exceptions=True)
        await self._pool.close()
        await self._webhooks.close()
        await self._transport.aclose()

    @property
    def _wire_style(self) -> WireStyle:
        return self.chaos.faults.wire

    @property
    def _wire(self) -> Wire:
        return Wire(self._wire_style)

    def _job(self, job_id: str) -> Job:
        job = self.store.job(job_id, self.clock.now())
        if job is None:
            raise ApiError(404, "Job not found")
        return job

    async def _admit(self, job: Job) -> None:
        """Let a new job into the queue after its time in `queuing`."""
        await asyncio.sleep(self.settings.scaled(self.settings.queue_seconds))
        waiting = [task for task in job.tasks.values() if not task.is_terminal]
        for task in waiting:
            task.move("queued", self.clock.now())
        self._pool.add(waiting)

    def _finish(self, task: Task, outcome: TaskOutcome) -> None:
        """Give a task its outcome, unless it has one, and its job the end when it was the last."""
        if task.is_terminal:
            return
        now = self.clock.now()
        task.end(outcome, now)
        job = task.job
        if not job.unfinished:
            job.ended = now
            fault = None if job.canceled else self.chaos.for_job(job.job_id, self.targets_of(job.job_id, None))
            job.end_status = fault.end_status if fault else "canceled" if job.canceled else "success"
        self._webhooks.deliver(task)

    def _crashed(self, task: Task, error: BaseException) -> None:
        _log.error("the emulator failed on a task", exc_info=error)
        self._finish(task, TaskOutcome("error", 510, error="the emulator failed on this task; see its log"))
