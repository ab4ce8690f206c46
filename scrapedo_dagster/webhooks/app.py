"""The receiver as an ASGI app.

    POST /webhooks/scrape-do/{submission}   one finished task, with the secret in X-Scrape-Do-Webhook-Secret
    GET  /healthz                           200 while the process serves
    GET  /readyz                            200 while deliveries can be stored, otherwise 503; usage of the quarantine

A delivery is answered with 200 once it is stored durably. Every failure that may pass is 503. No path is answered with
404 or 410, after which Scrape.do waits for an hour, tries once more and gives up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scrapedo_dagster.api.responses import WebhookPayload
from scrapedo_dagster.engine.inbox.deliveries import Delivery, is_storable
from scrapedo_dagster.engine.inbox.inbox import KEEP_FOR, Inbox, QuarantineUsage
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.threads import start_in_thread
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER
from scrapedo_dagster.webhooks.access_log import AccessLog, describe_error
from scrapedo_dagster.webhooks.delivery_writer import DeliveryResult, DeliveryWriter
from scrapedo_dagster.webhooks.request_body import BodyBudget, BodyTooLargeError, content_length, read_body
from scrapedo_dagster.webhooks.secrets import Secrets

_RETRY_AFTER = {"Retry-After": "10"}
_PRUNE_SECONDS = 3600.0
_UNKNOWN = "the ledger does not have this submission, or the submission does not have this task"
_REASONS = {
    DeliveryResult.QUARANTINED: _UNKNOWN,
    DeliveryResult.DROPPED: f"{_UNKNOWN}, and the quarantine is full",
    DeliveryResult.LATE: "the submission is collected",
}


@dataclass(frozen=True)
class ReceiverLimits:
    """What a client can take of the receiver.

    Attributes:
        max_body: bytes of one body.
        bodies_in_memory: how many bodies of that size fit into memory.
        request_seconds: from the headers of a request to its answer.
        ready_seconds: how long /readyz waits for the database, and how long its answer is reused.
        keep_for: the age at which deliveries are pruned.
        max_connections: connections that are served at once. More wait.
        header_seconds: for the headers of a request, and between two requests of a connection.
        max_header: bytes of the headers of a request.
    """

    max_body: int = 16 * 2**20
    bodies_in_memory: int = 4
    request_seconds: float = 30.0
    ready_seconds: float = 5.0
    keep_for: timedelta = KEEP_FOR
    max_connections: int = 500
    header_seconds: float = 5.0
    max_header: int = 64 * 2**10


@dataclass(frozen=True)
class Receiver:
    """What the app works with."""

    secrets: Secrets
    ledger: Ledger
    inbox: Inbox
    log: AccessLog
    limits: ReceiverLimits = field(default_factory=ReceiverLimits)


def make_app(receiver: Receiver) -> Starlette:
    """Return the ASGI app of a receiver."""
    handlers = _Handlers(receiver)
    app = Starlette(
        routes=[
            Route(PATH + "{key:path}", handlers.deliver, methods=["POST"]),
            Route("/healthz", handlers.healthz),
            Route("/readyz", handlers.readyz),
        ],
        exception_handlers={HTTPException: handlers.refuse},
        lifespan=handlers.lifespan,
    )
    app.router.redirect_slashes = False
    return app


@dataclass
class _Answer:
    """The answer to a delivery. `details` are for the log."""

    status: int
    reason: str | None
    details: dict[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        body = {"error": self.reason} if self.status >= 400 else {"result": self.details["result"]}
        return JSONResponse(body, self.status, _RETRY_AFTER if self.status == 503 else None)


class _Handlers:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._limits = receiver.limits
        self._writer = DeliveryWriter(receiver.inbox, receiver.ledger)
        self._budget = BodyBudget(self._limits.bodies_in_memory * self._limits.max_body)
        self._check: asyncio.Task[tuple[int, dict[str, Any]]] | None = None
        self._checked_at = float("-inf")

    async def deliver(self, request: Request) -> Response:
        began = time.monotonic()
        try:
            with anyio.fail_after(self._limits.request_seconds):
                answer = await self._answer(request)
        except TimeoutError:
            # Not 408: Scrape.do is only known to repeat after a 5xx, or without an answer.
            reason = f"the delivery was not received and stored within {self._limits.request_seconds:g} s"
            answer = _Answer(503, reason)
        except ClientDisconnect:
            answer = _Answer(499, "the client disconnected before the body was complete")
        except Exception as error:  # noqa: BLE001 - whatever it is, the delivery can be repeated
            answer = _Answer(503, "the delivery could not be stored", {"problem": describe_error(error)})
        self._log(request, answer.status, began, reason=answer.reason, **answer.details)
        return answer.response()

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def readyz(self, request: Request) -> Response:
        now = time.monotonic()
        if self._check is None or (self._check.done() and now - self._checked_at > self._limits.ready_seconds):
            self._check, self._checked_at = asyncio.create_task(self._check_readiness()), now
        await asyncio.wait({self._check}, timeout=max(0.0, self._checked_at + self._limits.ready_seconds - now))
        if not self._check.done():
            return JSONResponse({"ready": False, "reason": "the ledger's database does not answer"}, 503)
        status, body = self._check.result()
        return JSONResponse(body, status)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer a request for an unknown path or with another method."""
        began = time.monotonic()
        status = error.status_code if isinstance(error, HTTPException) else 503
        headers = error.headers if isinstance(error, HTTPException) else None
        reason = f"{request.method} is not supported here: POST deliveries to {PATH}..."
        status = 400 if status in (404, 410) else status
        self._log(request, status, began, reason=reason)
        return JSONResponse({"error": reason}, status, headers)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        pruning = asyncio.create_task(self._prune_periodically())
        try:
            yield
        finally:
            pruning.cancel()
            await asyncio.gather(pruning, return_exceptions=True)

    async def _answer(self, request: Request) -> _Answer:
        if not self._receiver.secrets.accept(request.headers.get(SECRET_HEADER)):
            return _Answer(401, f"the secret in {SECRET_HEADER} is missing or wrong")
        try:
            async with self._budget.reserved(content_length(request, self._limits.max_body)):
                return await self._store(request.path_params["key"], await read_body(request, self._limits.max_body))
        except BodyTooLargeError:
            return _Answer(413, f"a body may have {self._limits.max_body} bytes at most")

    async def _store(self, key: str, body: bytes) -> _Answer:
        details: dict[str, Any] = {"submission": key, "bytes": len(body)}
        try:
            delivery = _parse_delivery(key, body)
        except ValueError as error:
            return _Answer(400, str(error), details)
        details |= {"job_id": delivery.job_id, "task_id": delivery.task_id}
        result = await self._writer.store(delivery)
        return _Answer(200, _REASONS.get(result), {**details, "result": result.value})

    async def _check_readiness(self) -> tuple[int, dict[str, Any]]:
        try:
            usage = await start_in_thread(self._try_database)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be stored
            self._receiver.log.write("not ready", problem=describe_error(error))
            return 503, {"ready": False, "reason": f"deliveries cannot be stored ({type(error).__name__})"}
        quarantine = {"deliveries": usage.deliveries, "bytes": usage.bytes, "dropped": self._writer.dropped}
        return 200, {"ready": True, "quarantine": quarantine}

    def _try_database(self) -> QuarantineUsage:
        self._receiver.inbox.check()
        return self._receiver.inbox.quarantine_usage()

    async def _prune_periodically(self) -> None:
        while True:
            try:
                pruned = await start_in_thread(lambda: self._receiver.inbox.prune(self._limits.keep_for))
            except Exception as error:  # noqa: BLE001 - it may work in an hour
                self._receiver.log.write("not pruned", problem=describe_error(error))
            else:
                if pruned:
                    self._receiver.log.write("pruned", deliveries=pruned, older_than_days=self._limits.keep_for.days)
            await asyncio.sleep(_PRUNE_SECONDS)

    def _log(self, request: Request, status: int, began: float, **details: Any) -> None:
        self._receiver.log.write(
            "request",
            client=request.client.host if request.client else None,
            method=request.method,
            path=request.scope["path"],
            status=status,
            ms=round((time.monotonic() - began) * 1000, 1),
            **details,
        )


def _parse_delivery(key: str, body: bytes) -> Delivery:
    """Return what was posted. Raises ValueError with the reason if it is not a finished task."""
    try:
        task = WebhookPayload.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"the body is not a task: {place + ': ' if place else ''}{first['msg']}") from None
    if not task.is_terminal:
        raise ValueError("the task has not ended: its Status is not success, error or canceled")
    if not is_storable(task.job_id) or not is_storable(task.task_id):
        raise ValueError("JobID or TaskID is empty, too long or not printable")
    return Delivery(key, task.job_id, task.task_id, body)
