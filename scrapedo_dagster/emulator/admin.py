"""Endpoints below `/admin`: recorded calls, clock and faults. JSON in snake_case, without a token.

    GET    /admin/targets    {"targets": [{"url", "submitted", "fetched", "charged", "credits"}, ...]}
    GET    /admin/requests   {"requests": {"create_job": 1, ...}}: calls of each operation, including faulty ones
    POST   /admin/clock      {"advance_seconds": 3600} -> {"now": "2026-01-31T09:30:00+00:00"}
    GET    /admin/faults     the active faults, in the format of `faults.py`
    PUT    /admin/faults     replaces the faults and resets their counts; same format
    DELETE /admin/faults     removes all faults

The response to an invalid request is 400 with `{"error": ...}`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scrapedo_dagster.emulator.faults import Faults, FaultsError
from scrapedo_dagster.emulator.service import Service

_MAX_ADVANCE: Final = timedelta(days=3650)


def admin_routes(service: Service) -> list[Route]:
    """Return the routes below `/admin`."""
    admin = _AdminEndpoints(service)
    return [
        Route("/targets", admin.targets, methods=["GET"]),
        Route("/requests", admin.requests, methods=["GET"]),
        Route("/clock", admin.advance, methods=["POST"]),
        Route("/faults", admin.get_faults, methods=["GET"]),
        Route("/faults", admin.put_faults, methods=["PUT"]),
        Route("/faults", admin.delete_faults, methods=["DELETE"]),
    ]


class _AdminEndpoints:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def targets(self, request: Request) -> Response:
        counts = self._service.store.targets
        return JSONResponse({"targets": [{"url": url, **asdict(count)} for url, count in counts.items()]})

    async def requests(self, request: Request) -> Response:
        return JSONResponse({"requests": dict(self._service.store.requests)})

    async def advance(self, request: Request) -> Response:
        body = await _json(request)
        seconds = body.get("advance_seconds") if isinstance(body, dict) else None
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 <= seconds <= _MAX_ADVANCE.total_seconds()
        ):
            return _bad_request('send {"advance_seconds": N}, seconds from 0 to ten years')
        self._service.clock.advance(timedelta(seconds=seconds))
        return JSONResponse({"now": self._service.clock.now().isoformat()})

    async def get_faults(self, request: Request) -> Response:
        return JSONResponse(self._service.injector.faults.model_dump(exclude_unset=True))

    async def put_faults(self, request: Request) -> Response:
        try:
            faults = Faults.parse(await _json(request))
        except FaultsError as error:
            return _bad_request(str(error))
        self._service.injector.replace(faults)
        return await self.get_faults(request)

    async def delete_faults(self, request: Request) -> Response:
        self._service.injector.replace(Faults())
        return await self.get_faults(request)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        return None


def _bad_request(message: str) -> Response:
    return JSONResponse({"error": message}, 400)
