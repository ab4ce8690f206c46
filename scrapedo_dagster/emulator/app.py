"""ASGI application of the six operations: routes, token, error responses, faults of calls."""

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
from scrapedo_dagster.emulator.errors import ApiError
from scrapedo_dagster.emulator.faults import CallFault
from scrapedo_dagster.emulator.faulty_responses import DroppedConnection, HangingResponse, TruncatedResponse
from scrapedo_dagster.emulator.service import Service

_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Any]]


def make_app(service: Service, stopping: asyncio.Event) -> Starlette:
    """Create the ASGI application. Hanging calls end when `stopping` is set.

    It has admin endpoints only if no other machine can reach it.
    """
    api = _Endpoints(service, stopping)
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


class _Endpoints:
    def __init__(self, service: Service, stopping: asyncio.Event) -> None:
        self._service = service
        self._stopping = stopping
        self._token = service.settings.token.encode()

    def endpoint(self, name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint of an operation, which counts its calls and injects faults."""

        async def call(request: Request) -> Response:
            self._service.store.requests[name] += 1
            try:
                # Read now: a client that disconnects while a fault delays its call has still sent the call.
                await request.body()
            except ClientDisconnect:
                return Response(status_code=400)
            candidates = await self._match_candidates(request) if self._service.injector.needs_candidates(name) else ()
            hits = self._service.injector.for_call(name, candidates)
            await self._pause(hits, "before")
            fault = next((hit for hit in hits if hit.kind != "latency"), None)
            is_processed = fault is None or fault.when == "after" or fault.kind == "truncate"
            if fault is not None:
                _log.info(
                    "%s: injected fault %s, call %s", name, fault.kind, "processed" if is_processed else "not processed"
                )
                if not is_processed:
                    return self._faulty(fault)
            response = await self._respond(request, handler)
            await self._pause(hits, "after")
            if fault is None:
                return response
            return TruncatedResponse(response) if fault.kind == "truncate" else self._faulty(fault)

        return call

    async def create_job(self, request: Request) -> Any:
        return await self._service.create_job(_parse_json(await request.body()))

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

    async def _respond(self, request: Request, handler: Handler) -> Response:
        try:
            if not hmac.compare_digest(request.headers.get("x-token", "").encode("latin-1"), self._token):
                raise ApiError(401, "Invalid or missing token: send it as the X-Token header")
            response: Response = JSONResponse(await handler(request))
        except ApiError as error:
            response = _error_response(error.status, error.message)
        # Jobs have times of the emulator clock, which tests advance.
        response.headers["Date"] = format_datetime(self._service.clock.now(), usegmt=True)
        return response

    def _faulty(self, fault: CallFault) -> Response:
        if fault.kind == "drop":
            return DroppedConnection()
        if fault.kind == "hang":
            return HangingResponse(self._stopping)
        status = fault.status or 500
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        if fault.body == "html":
            return HTMLResponse(f"<html><body><h1>{status}</h1></body></html>", status, headers)
        if fault.body == "empty":
            return Response(status_code=status, headers=headers)
        return _error_response(status, "injected by the emulator", headers)

    async def _pause(self, hits: list[CallFault], when: str) -> None:
        seconds = sum(hit.seconds or 0 for hit in hits if hit.kind == "latency" and hit.when == when)
        if seconds:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _match_candidates(self, request: Request) -> list[str]:
        """Return what `match` of a fault is compared with: the path and the target URLs of the call."""
        urls = self._service.targets_of(request.path_params.get("job_id"), request.path_params.get("task_id"))
        if request.method == "POST":
            urls = _targets_of_body(await request.body())
        return [request.url.path, *urls]


def _parse_json(body: bytes) -> Any:
    try:
        parsed = json.loads(body, parse_constant=_reject_constant)
        # Lone surrogates are valid JSON, but cannot be encoded.
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ApiError(400, "Invalid request: the body is not JSON") from None
    return parsed


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _targets_of_body(body: bytes) -> list[str]:
    try:
        targets = _parse_json(body)["Targets"]
    except (ApiError, LookupError, TypeError):
        return []
    return [target for target in targets if isinstance(target, str)] if isinstance(targets, list) else []


def _error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"Error": message, "Code": status}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """Respond to unknown paths and methods with the error body of the service."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "Unknown path", 405: "Method not allowed"}.get(status, "Request failed")
    return _error_response(status, message)
