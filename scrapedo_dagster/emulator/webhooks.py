"""Delivers finished tasks to the job's WebhookURL, and repeats what failed.

A receiver that answers 404 or 410 gets one more attempt an hour later, then `WebhookStatus` is `failed`: that is
documented. Everything else but 2xx is repeated after the waits of `EmulatorSettings.webhook_retry_seconds`. All waits
are by the emulator's clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import httpx

from scrapedo_dagster.emulator.chaos import Chaos
from scrapedo_dagster.emulator.clock import Clock
from scrapedo_dagster.emulator.state import Task

_GONE: Final = frozenset({404, 410})
_GONE_WAIT: Final = timedelta(hours=1)
_ATTEMPT_TIMEOUT: Final = 30.0  # seconds; the service's is not documented
_MAX_AT_ONCE: Final = 20


class Webhooks:
    """Deliveries in flight. `body_of` gives what is posted for a task, `scaled` real seconds for the emulator's."""

    def __init__(
        self,
        *,
        clock: Clock,
        chaos: Chaos,
        transport: httpx.AsyncBaseTransport,
        retry_seconds: tuple[float, ...],
        scaled: Callable[[float], float],
        body_of: Callable[[Task], dict[str, Any]],
    ) -> None:
        self._clock = clock
        self._chaos = chaos
        self._scaled = scaled
        self._transport = transport
        self._waits = tuple(timedelta(seconds=seconds) for seconds in retry_seconds)
        self._body_of = body_of
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._deliveries: set[asyncio.Task[None]] = set()

    def deliver(self, task: Task) -> None:
        """Begin to deliver a task that has just ended, if its job asks for it."""
        if task.job.request.webhook_url is None:
            return
        task.webhook_status = "pending"
        delivery = asyncio.ensure_future(self._deliver(task, task.job.request.webhook_url))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def close(self) -> None:
        """Give up what is not delivered yet."""
        deliveries = list(self._deliveries)
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)

    async def _deliver(self, task: Task, url: str) -> None:
        if delay := self._chaos.for_delivery("delay", task.task_id, task.url):
            await asyncio.sleep(self._scaled(delay.seconds or 0))
        if self._chaos.for_delivery("lose", task.task_id, task.url):
            task.webhook_time = self._clock.now()
            task.webhook_status = "success"
            return
        waits = iter(self._waits)
        was_gone = False
        while True:
            # Waits count from the attempt: whoever advances the clock has seen the attempt, not its end.
            attempted = self._clock.now()
            status = await self._post(task, url)
            if status is not None and 200 <= status < 300:
                if self._chaos.for_delivery("duplicate", task.task_id, task.url):
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
        """One attempt; the status of the answer, or None without one."""
        async with self._slots:
            task.webhook_time = self._clock.now()
            try:
                client = httpx.AsyncClient(transport=self._transport, trust_env=False)
                response = await asyncio.wait_for(client.send(self._request(task, url)), _ATTEMPT_TIMEOUT)
            except Exception:  # noqa: BLE001 - a URL or a header that cannot be sent is no answer either
                return None
            return response.status_code

    def _request(self, task: Task, url: str) -> httpx.Request:
        headers = httpx.Headers([(b"Content-Type", b"application/json")])
        for name, value in (task.job.request.webhook_headers or {}).items():
            headers[name] = value
        body = json.dumps(self._body_of(task)).encode()
        if self._chaos.truncates(task.url):
            body = body[: len(body) // 2]
        timeout = {"timeout": httpx.Timeout(_ATTEMPT_TIMEOUT).as_dict()}
        return httpx.Request("POST", url, headers=headers, content=body, extensions=timeout)
