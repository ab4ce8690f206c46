"""Post finished tasks to the WebhookURL of their job, and retry failed deliveries.

As documented, a delivery that is answered with 404 or 410 is retried once after an hour, then `WebhookStatus` is
`failed`. Other failures are retried after the waits of `EmulatorSettings.webhook_retry_seconds`. All waits use the
emulator clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import httpx

from scrapedo_dagster.emulator.clock import EmulatorClock
from scrapedo_dagster.emulator.fault_injector import FaultInjector
from scrapedo_dagster.emulator.state import Task

_GONE: Final = frozenset({404, 410})
_GONE_WAIT: Final = timedelta(hours=1)
_ATTEMPT_TIMEOUT: Final = 30.0  # seconds; not documented by Scrape.do
_MAX_AT_ONCE: Final = 20


class WebhookSender:
    """Sends deliveries in the background.

    `body_of` returns the body for a task; `scaled` converts waiting times of the emulator to real seconds.
    """

    def __init__(
        self,
        *,
        clock: EmulatorClock,
        injector: FaultInjector,
        transport: httpx.AsyncBaseTransport,
        retry_seconds: tuple[float, ...],
        scaled: Callable[[float], float],
        body_of: Callable[[Task], dict[str, Any]],
    ) -> None:
        self._clock = clock
        self._injector = injector
        self._scaled = scaled
        self._transport = transport
        self._waits = tuple(timedelta(seconds=seconds) for seconds in retry_seconds)
        self._body_of = body_of
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._deliveries: set[asyncio.Task[None]] = set()

    def deliver(self, task: Task) -> None:
        """Start to deliver a task that has just ended, if its job has a webhook."""
        if task.job.request.webhook_url is None:
            return
        task.webhook_status = "pending"
        delivery = asyncio.ensure_future(self._deliver(task, task.job.request.webhook_url))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def close(self) -> None:
        """Cancel all deliveries in progress."""
        deliveries = list(self._deliveries)
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)

    async def _deliver(self, task: Task, url: str) -> None:
        if delay := self._injector.for_delivery("delay", task.task_id, task.url):
            await asyncio.sleep(self._scaled(delay.seconds or 0))
        if self._injector.for_delivery("lose", task.task_id, task.url):
            task.webhook_time = self._clock.now()
            task.webhook_status = "success"
            return
        waits = iter(self._waits)
        was_gone = False
        while True:
            # Waits start at the attempt: a test that advances the clock has seen the attempt, but not its end.
            attempted = self._clock.now()
            status = await self._post(task, url)
            if status is not None and 200 <= status < 300:
                if self._injector.for_delivery("duplicate", task.task_id, task.url):
                    await self._post(task, url)
                task.webhook_status = "success"
                return
            if was_gone:
                break
            if status in _GONE:
                was_gone = True
                wait: timedelta | None = _GONE_WAIT
            else:
                wait = next(waits, None)
            if wait is None:
                break
            await self._clock.sleep_until(attempted + wait)
        task.webhook_status = "failed"

    async def _post(self, task: Task, url: str) -> int | None:
        """Attempt one delivery. Returns the status of the response, or None without one."""
        async with self._slots:
            task.webhook_time = self._clock.now()
            try:
                client = httpx.AsyncClient(transport=self._transport, trust_env=False)
                response = await asyncio.wait_for(client.send(self._request(task, url)), _ATTEMPT_TIMEOUT)
            except Exception:  # noqa: BLE001 - includes URLs and headers that cannot be sent
                return None
            return response.status_code

    def _request(self, task: Task, url: str) -> httpx.Request:
        headers = httpx.Headers([(b"Content-Type", b"application/json")])
        for name, value in (task.job.request.webhook_headers or {}).items():
            headers[name] = value
        body = json.dumps(self._body_of(task)).encode()
        if self._injector.truncates(task.url):
            body = body[: len(body) // 2]
        timeout = {"timeout": httpx.Timeout(_ATTEMPT_TIMEOUT).as_dict()}
        return httpx.Request("POST", url, headers=headers, content=body, extensions=timeout)
