"""A small web shop on this machine, for scraping without harm: `with DemoSite() as site: ...`.

Besides pages that work it has what scrapers meet: two charsets, JSON, images, a redirect, a missing page, an error, and
a page that never answers. `pages.py` says what is on them.
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

from scrapedo_dagster.emulator import demo_pages as pages

_HOST = "127.0.0.1"
_LOOK_EVERY = 0.05  # seconds, for a page that never answers to see that nobody waits for it any more
_GRACE = 1  # seconds for other answers to be sent when the site stops


def targets(base_url: str, day: str) -> list[str]:
    """The URLs of everything the shop has on a day (`2026-01-01`), 127 of them, in a fixed order."""
    paths = [
        *(f"products/{number}" for number in pages.PRODUCTS),
        *(f"categories/{quote(name)}" for name in pages.CATEGORIES),
        *(f"api/products/{number}" for number in pages.SERVED_AS_JSON),
        *(f"images/{number}.png" for number in pages.IMAGES),
        "sale",  # redirects
        f"products/{pages.PRODUCTS.stop}",  # is missing
        "checkout",  # fails
        "search/never-answers",
    ]
    return [f"{base_url.rstrip('/')}/{day}/{path}" for path in paths]


class DemoSite:
    """The shop, served at `base_url` until the block ends. A port of 0 takes any that is free.

    Raises OSError when the port is taken.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._requests: Counter[str] = Counter()
        app = Starlette(
            routes=[
                Route("/{day}/search/{query:path}", self._never_answer),
                Route("/{path:path}", self._answer),
            ]
        )
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = uvicorn.Server(config)

    def __enter__(self) -> "DemoSite":  # noqa: PYI034 - Self is of Python 3.11
        # It listens from here on: a request that comes before the thread has started waits.
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
        """Stop, also where pages hang."""
        self._server.should_exit = True
        self._thread.join()

    @property
    def base_url(self) -> str:
        """Where the site is, without a slash at the end."""
        return f"http://{_HOST}:{self._port}"

    @property
    def requests(self) -> dict[str, int]:
        """How often each path, decoded, was asked for."""
        return dict(self._requests)

    async def _answer(self, request: Request) -> Response:
        self._requests[request.scope["path"]] += 1
        page = pages.page_at(request.path_params["path"])
        # Given as headers, because Starlette adds a charset of its own to the text types.
        return Response(page.body, page.status, {"content-type": page.media_type, **page.headers})

    async def _never_answer(self, request: Request) -> Response:
        self._requests[request.scope["path"]] += 1
        # Two ends are looked for, and another thread sets one of them.
        while not self._server.should_exit and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY)
        return Response(status_code=503)
