"""The six operations over HTTP: routes, the token, error envelopes, and the faults of calls."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from scrapedo_dagster.emulator.admin import admin_routes
from scrapedo_dagster.emulator.answers import Dropped, Hanging, Truncated
from scrapedo_dagster.emulator.errors import ApiError
from scrapedo_dagster.emulator.faults import CallFault
from scrapedo_dagster.emulator.service import Service

_log = logging.getLogger(__name__)

Operation = Callable[[Request], Awaitable[Any]]


def make_app(service: Service, stopping: asyncio.Event) -> Starlette:
    """The ASGI application. Calls that hang are let go when `stopping` is set.

    The admin endpoints are there only when nobody but this machine can reach them.
    """
    api = _Api(service, stopping)
    routes = [
        Mount(
            "/api/v1",
            routes=[
                Route("/jobs", api.endpoint("create_job", api.create_job), methods=["POST"]),
                Route("/jobs", api.endpoint("list_jobs", api.list_jobs), methods=["GET"]),
                Route("/jobs/{job_id}", api.endpoint("get_job", api.get_job), methods=["GET"]),
                Route("/jobs/{job_id}", api.endpoint("cancel_job", api.cancel_job), methods=["DELETE"]),
                Route("/jobs/{job_id}/{task_id}", api.endpoint("get_task", api.get_task), methods=["GET"]),
                Route("/me", api.endpoint("me", api.me), methods=["GET"]),
            ],
        )
    ]
    if service.settings.is_private:
        routes.append(Mount("/admin", routes=admin_routes(service)))
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _http_error})


class _Api:
    def __init__(self, service: Service, stopping: asyncio.Event) -> None:
        self._service = service
        self._stopping = stopping
        self._token = service.settings.token.encode()

    def endpoint(self, name: str, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        """The operation as a route, counted, and with the faults that hit it."""

        async def call(request: Request) -> Response:
            self._service.store.requests[name] += 1
            try:
                # Now, because a client that leaves while a fault delays its call has still sent it.
                await request.body()
            except ClientDisconnect:
                return Response(status_code=400)
            subjects = await self._subjects(request) if self._service.chaos.wants_subjects(name) else ()
            hits = self._service.chaos.for_call(name, subjects)
            await self._pause(hits, "before")
            fault = next((hit for hit in hits if hit.kind != "latency"), None)
            works = fault is None or fault.when == "after" or fault.kind == "truncate"
            if fault is not None:
                _log.info("%s: fault %s, work %s", name, fault.kind, "done" if works else "not done")
                if not works:
                    return self._spoilt(fault)
            response = await self._answer(request, operation)
            await self._pause(hits, "after")
            if fault is None:
                return response
            return Truncated(response) if fault.kind == "truncate" else self._spoilt(fault)

        return call

    async def create_job(self, request: Request) -> Any:
        return await self._service.create_job(_json_of(await request.body()))

    async def list_jobs(self, request: Request) -> Any:
        return self._service.list_jobs(request.query_params)

    async def get_job(self, request: Request) -> Any:
        return self._service.get_job(request.path_params["job_id"])

    async def cancel_job(self, request: Request) -> Any:
        return await self._service.cancel_job(request.path_params["job_id"])

    async def get_task(self, request: Request) -> Any:
        return self._service.get_task(request.path_params["job_id"], request.path_params["task_id"])

    async def me(self, request: Request) -> Any:
        return self._service.me()

    async def _answer(self, request: Request, operation: Operation) -> Response:
        try:
            if not hmac.compare_digest(request.headers.get("x-token", "").encode("latin-1"), self._token):
                raise ApiError(401, "Invalid or missing token: send it as the X-Token header")
            response: Response = JSONResponse(await operation(request))
        except ApiError as error:
            response = _envelope(error.status, error.message)
        # The service's clock is the one that jobs are stamped by, and tests move.
        response.headers["Date"] = format_datetime(self._service.clock.now(), usegmt=True)
        return response

    def _spoilt(self, fault: CallFault) -> Response:
        if fault.kind == "drop":
            return Dropped()
        if fault.kind == "hang":
            return Hanging(self._stopping)
        status = fault.status or 500
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        if fault.body == "html":
            return HTMLResponse(f"<html><body><h1>{status}</h1></body></html>", status, headers)
        if fault.body == "empty":
            return Response(status_code=status, headers=headers)
        return _envelope(status, "a fault of the emulator", headers)

    async def _pause(self, hits: list[CallFault], when: str) -> None:
        seconds = sum(hit.seconds or 0 for hit in hits if hit.kind == "latency" and hit.when == when)
        if seconds:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _subjects(self, request: Request) -> list[str]:
        """What the faults' `match` is compared with: the path and the target URLs of the call."""
        urls = self._service.targets_of(request.path_params.get("job_id"), request.path_params.get("task_id"))
        if request.method == "POST":
            urls = _targets_in(await request.body())
        return [request.url.path, *urls]


def _json_of(body: bytes) -> Any:
    try:
        parsed = json.loads(body, parse_constant=_no_number)
        # Half of a surrogate pair is valid JSON, but no text that could ever be sent on or shown.
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ApiError(400, "Invalid request: the body is not JSON") from None
    return parsed


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _targets_in(body: bytes) -> list[str]:
    try:
        targets = _json_of(body)["Targets"]
    except (ApiError, LookupError, TypeError):
        return []
    return [target for target in targets if isinstance(target, str)] if isinstance(targets, list) else []


def _envelope(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"Error": message, "Code": status}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the service's envelope."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "No such path", 405: "This path does not take that method"}.get(status, "Request failed")
    return _envelope(status, message)
