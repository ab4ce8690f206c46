"""The receiver as an ASGI app.

    POST /webhooks/scrape-do/{submission}   one finished task, with the secret in X-Scrape-Do-Webhook-Secret
    GET  /healthz                           200 while the process serves
    GET  /readyz                            200 while deliveries can be stored, 503 otherwise; what is kept apart

200 is answered once the delivery is stored durably, or was before. Everything that may pass is 503. No path is answered
with 404 or 410: after these the service waits for an hour, and then gives up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scrapedo_dagster.api.responses import WebhookPayload
from scrapedo_dagster.engine.inbox.address import PATH, SECRET_HEADER
from scrapedo_dagster.engine.inbox.protocol import KEPT, Delivery, Inbox, QuarantineUsage, is_storable
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.threads import start_in_thread
from scrapedo_dagster.webhooks.body import Room, TooLargeError, announced, read
from scrapedo_dagster.webhooks.log import Log, told
from scrapedo_dagster.webhooks.secrets import Secrets
from scrapedo_dagster.webhooks.storing import Fate, Storing

MAX_BODY = 16 * 2**20
REQUEST_SECONDS = 30.0

_BODIES_IN_MEMORY = 4  # of the largest kind
_RETRY_AFTER = {"Retry-After": "10"}
_READY_SECONDS = 5.0  # that an answer of /readyz stands for, since everybody may ask, and that one takes at most
_NO_LEDGER = "without --ledger-url all submissions count as known, and what is stored for them has no end"
_PRUNE_SECONDS = 3600.0
_NOBODYS = "nobody knows this submission, or it has no such task"
_REASONS = {Fate.APART: _NOBODYS, Fate.DROPPED: _NOBODYS, Fate.LATE: "its submission is collected, or failed"}


@dataclass(frozen=True)
class Receiver:
    """What a receiver needs. `max_body` is in bytes, `request_seconds` for a whole request."""

    secrets: Secrets
    inbox: Inbox
    log: Log
    ledger: Ledger | None = None
    max_body: int = MAX_BODY
    request_seconds: float = REQUEST_SECONDS


def make_app(receiver: Receiver) -> Starlette:
    """The app of a receiver."""
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
    """To a delivery. `about` is for the log. `closes` if the rest of the request is not waited for."""

    status: int
    reason: str | None
    about: dict[str, Any] = field(default_factory=dict)
    closes: bool = False

    def response(self) -> Response:
        body = {"error": self.reason} if self.status >= 400 else {"result": self.about.get("result")}
        headers = _RETRY_AFTER if self.status == 503 else {}
        return JSONResponse(body, self.status, {**headers, "Connection": "close"} if self.closes else headers)


class _Handlers:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._storing = Storing(receiver.inbox, receiver.ledger)
        self._room = Room(_BODIES_IN_MEMORY * receiver.max_body)
        self._check: asyncio.Task[tuple[int, dict[str, Any]]] | None = None
        self._checked_at = float("-inf")

    async def deliver(self, request: Request) -> Response:
        began = time.monotonic()
        try:
            answer = await self._answer(request, began + self._receiver.request_seconds)
        except ClientDisconnect:
            answer = _Answer(499, "the client has gone before the body was complete")
        except Exception as error:  # noqa: BLE001 - a mistake of ours is no reason to lose a delivery
            answer = _Answer(503, "the delivery could not be stored", {"problem": told(error)})
        self._log(request, answer.status, began, reason=answer.reason, **answer.about)
        return answer.response()

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def readyz(self, request: Request) -> Response:
        now = time.monotonic()
        if self._check is None or (self._check.done() and now - self._checked_at > _READY_SECONDS):
            self._check, self._checked_at = asyncio.create_task(self._checked()), now
        await asyncio.wait({self._check}, timeout=max(0.0, self._checked_at + _READY_SECONDS - now))
        if not self._check.done():
            return JSONResponse({"ready": False, "reason": "the inbox or the ledger does not answer"}, 503)
        status, body = self._check.result()
        return JSONResponse(body, status)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Unknown paths and methods."""
        began = time.monotonic()
        status = error.status_code if isinstance(error, HTTPException) else 503
        reason = f"there is no {request.method} here; deliveries are POSTed to {PATH}..."
        headers = error.headers if isinstance(error, HTTPException) else None
        status = 400 if status in (404, 410) else status
        self._log(request, status, began, reason=reason)
        return JSONResponse({"error": reason}, status, headers)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        if self._receiver.ledger is None:
            self._receiver.log.write("warning", reason=_NO_LEDGER)
        pruning = asyncio.create_task(self._prune_for_ever())
        try:
            yield
        finally:
            pruning.cancel()
            await asyncio.gather(pruning, return_exceptions=True)
            self._storing.close()

    async def _answer(self, request: Request, deadline: float) -> _Answer:
        receiver = self._receiver
        if not receiver.secrets.accept(request.headers.get(SECRET_HEADER)):
            return _Answer(401, f"the secret in {SECRET_HEADER} is missing or wrong")
        try:
            length = announced(request, receiver.max_body)
            async with self._room.taken(length, within=deadline - time.monotonic()):
                return await self._take(request, deadline)
        except TooLargeError:
            return _Answer(413, f"a body may have {receiver.max_body} bytes at most")
        except (asyncio.TimeoutError, TimeoutError):
            return _Answer(503, "too many deliveries at once, or storing took too long")

    async def _take(self, request: Request, deadline: float) -> _Answer:
        try:
            body = await asyncio.wait_for(read(request, self._receiver.max_body), deadline - time.monotonic())
        except (asyncio.TimeoutError, TimeoutError):
            # No 408: the service is only known to repeat after what is 5xx, or no answer.
            late = f"the body did not come within {self._receiver.request_seconds:g} s"
            return _Answer(503, late, closes=True)
        key = request.path_params["key"]
        about: dict[str, Any] = {"submission": key, "bytes": len(body)}
        try:
            delivery = _delivery(key, body)
        except ValueError as error:
            return _Answer(400, str(error), about)
        about |= {"job_id": delivery.job_id, "task_id": delivery.task_id}
        fate = await asyncio.wait_for(self._storing.store(delivery), deadline - time.monotonic())
        return _Answer(200, _REASONS.get(fate), {**about, "result": fate.value})

    async def _checked(self) -> tuple[int, dict[str, Any]]:
        try:
            apart = await start_in_thread(self._try_storage)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be stored
            self._receiver.log.write("not ready", problem=told(error))
            return 503, {"ready": False, "reason": f"deliveries cannot be stored ({type(error).__name__})"}
        unknown = {"kept": apart.deliveries, "bytes": apart.bytes, "dropped": self._storing.fates[Fate.DROPPED]}
        warning = {"warning": _NO_LEDGER} if self._receiver.ledger is None else {}
        return 200, {"ready": True, "unknown_submissions": unknown, **warning}

    def _try_storage(self) -> QuarantineUsage:
        """Do what storing does."""
        if self._receiver.ledger is not None:
            self._receiver.ledger.submissions.by_ids([0])
        self._receiver.inbox.check()
        return self._receiver.inbox.quarantine_usage()

    async def _prune_for_ever(self) -> None:
        while True:
            try:
                forgotten = await start_in_thread(lambda: self._receiver.inbox.prune(KEPT))
            except Exception as error:  # noqa: BLE001 - the next hour may be better
                self._receiver.log.write("not pruned", problem=told(error))
            else:
                if forgotten:
                    self._receiver.log.write("pruned", deliveries=forgotten, older_than_days=KEPT.days)
            await asyncio.sleep(_PRUNE_SECONDS)

    def _log(self, request: Request, status: int, began: float, **about: Any) -> None:
        self._receiver.log.write(
            "request",
            client=request.client.host if request.client else None,
            method=request.method,
            path=request.scope["path"],
            status=status,
            ms=round((time.monotonic() - began) * 1000, 1),
            **about,
        )


def _delivery(key: str, body: bytes) -> Delivery:
    """What was posted. ValueError says why it is none."""
    try:
        task = WebhookPayload.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"the body is no task: {place + ': ' if place else ''}{first['msg']}") from None
    if not task.is_terminal:
        raise ValueError("the task has not ended: its Status is not success, error or canceled")
    if not is_storable(task.job_id) or not is_storable(task.task_id):
        raise ValueError("JobID or TaskID is no id")
    return Delivery(key, task.job_id, task.task_id, body)
