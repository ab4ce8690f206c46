"""A small web shop on this machine to scrape in demos and tests: `with DemoSite() as site: ...`.

It has what scrapers encounter: two charsets, JSON, images, a redirect, a missing page, an error, and a page that never
responds. `demo_pages.py` defines the demo_pages.
"""

import asyncio
import socket
import threading
from collections import Counter
from types import TracebackType
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scrapedo_dagster.emulator import demo_pages

_HOST = "127.0.0.1"
_DISCONNECT_POLL_SECONDS = 0.05  # how often a page that never responds checks for a disconnect
_SHUTDOWN_SECONDS = 1  # for responses in progress when the site stops


def targets(base_url: str, day: str) -> list[str]:
    """Return the 127 URLs of the shop on a day (`2026-01-01`), in a fixed order."""
    paths = [
        *(f"products/{number}" for number in demo_pages.PRODUCTS),
        *(f"categories/{quote(name)}" for name in demo_pages.CATEGORIES),
        *(f"api/products/{number}" for number in demo_pages.SERVED_AS_JSON),
        *(f"images/{number}.png" for number in demo_pages.IMAGES),
        "sale",  # redirects
        f"products/{demo_pages.PRODUCTS.stop}",  # not found
        "checkout",  # status 500
        "search/never-responds",
    ]
    return [f"{base_url.rstrip('/')}/{day}/{path}" for path in paths]


class DemoSite:
    """The shop, served at `base_url` until the `with` block ends. Port 0 selects a free port.

    Raises OSError if the port is in use.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._requests: Counter[str] = Counter()
        app = Starlette(
            routes=[
                Route("/{day}/search/{query:path}", self._never_respond),
                Route("/{path:path}", self._respond),
            ]
        )
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        self._server = uvicorn.Server(config)

    def __enter__(self) -> "DemoSite":  # noqa: PYI034 - typing has no Self on Python 3.10
        # Listens from here on: requests that arrive before the thread has started wait.
        listener = socket.create_server((_HOST, self._port), backlog=512)
        self._port = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="demo-site", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, even if pages hang."""
        self._server.should_exit = True
        self._thread.join()

    @property
    def base_url(self) -> str:
        """URL of the site, without a trailing slash."""
        return f"http://{_HOST}:{self._port}"

    @property
    def requests(self) -> dict[str, int]:
        """Number of requests for each path, decoded."""
        return dict(self._requests)

    async def _respond(self, request: Request) -> Response:
        self._requests[request.scope["path"]] += 1
        page = demo_pages.page_at(request.path_params["path"])
        # Passed as a header: with media_type Starlette would add its own charset to text types.
        return Response(page.body, page.status, {"content-type": page.media_type, **page.headers})

    async def _never_respond(self, request: Request) -> Response:
        self._requests[request.scope["path"]] += 1
        # Polls two conditions, one of which another thread sets.
        while not self._server.should_exit and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(_DISCONNECT_POLL_SECONDS)
        return Response(status_code=503)
