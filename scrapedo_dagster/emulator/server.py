"""Run the emulator: `Emulator` in a thread, `serve` in the main thread until a signal arrives."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, TypeVar

import uvicorn

from scrapedo_dagster.emulator.app import make_app
from scrapedo_dagster.emulator.faults import Faults
from scrapedo_dagster.emulator.faulty_responses import FaultyProtocol
from scrapedo_dagster.emulator.service import Service
from scrapedo_dagster.emulator.settings import DEFAULT_TOKEN, EmulatorSettings, Plan
from scrapedo_dagster.emulator.state import JobRecord, TargetCount, record_of

_THREAD_TIMEOUT: Final = 30.0  # seconds for the thread to start, to respond, or to end
_SHUTDOWN_SECONDS: Final = 2  # for calls in progress when the emulator stops

ResultT = TypeVar("ResultT")
FaultsLike = Faults | Mapping[str, Any]


class PortInUseError(OSError):
    """The address cannot be bound, usually because another program listens on it."""


class Emulator:
    """A Scrape.do Async API on this machine, as a context manager.

    plan: free, hobby, pro, business or advanced; sets concurrency and credits.
    token: token that clients must send as `X-Token`.
    speed: divides the waiting times of the emulator. With 50 a task occupies its slot for 20 ms and the fetch.
    credits: initial credits; by default those of the plan.
    faults: `Faults`, or a mapping of the same structure, such as parsed TOML.
    settings: an `EmulatorSettings`, in place of all other arguments.

    All methods may be called from any thread. Jobs and counts can still be read after it has stopped.
    """

    def __init__(
        self,
        *,
        plan: Plan = "business",
        token: str = DEFAULT_TOKEN,
        speed: float = 1.0,
        credits: int | None = None,  # noqa: A002 - the word of the service
        faults: FaultsLike | None = None,
        settings: EmulatorSettings | None = None,
    ) -> None:
        self.settings = settings or EmulatorSettings(
            plan=plan, token=token, speed=speed, credits=credits, faults=_faults(faults or {})
        )
        self._address = ("", 0)
        self._running: _Running | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        """Show the URL, but not the token."""
        url = self.base_url if self._running else "not started"
        return f"<Emulator {url} plan={self.settings.plan}>"

    def __enter__(self) -> Emulator:  # noqa: PYI034 - typing has no Self on Python 3.10
        """Start to serve. Raises PortInUseError if the address is in use."""
        if self._thread is not None:
            raise RuntimeError("an Emulator cannot be started twice: create a new one")
        listener = _listen(self.settings.host, self.settings.port)
        self._address = listener.getsockname()[:2]
        started: Future[_Running] = Future()
        self._thread = threading.Thread(
            target=_run, args=(self.settings, listener, started), name="scrapedo-emulator", daemon=True
        )
        self._thread.start()
        self._running = started.result(_THREAD_TIMEOUT)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and wait until its thread has ended."""
        if self._running is not None and self._thread is not None:
            if self.is_alive:
                self._running.stop()
            self._thread.join(_THREAD_TIMEOUT)

    @property
    def is_alive(self) -> bool:
        """Whether the emulator is running."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def base_url(self) -> str:
        """URL to use in place of https://q.scrape.do, without `/api/v1`."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def admin_url(self) -> str | None:
        """URL of the admin endpoints, or None: they are off if other machines can reach the emulator."""
        return f"{self.base_url}/admin" if self.settings.is_private else None

    @property
    def token(self) -> str:
        """Token that clients must send as `X-Token`."""
        return self.settings.token

    @property
    def credits(self) -> int:
        """Credits left, less those reserved for running tasks."""
        return self._query(lambda service: service.account.credits)

    @property
    def faults(self) -> Faults:
        """The active faults."""
        return self._query(lambda service: service.injector.faults)

    def set_faults(self, faults: FaultsLike) -> None:
        """Replace all faults and reset their counts. `{}` removes them."""
        parsed = _faults(faults)
        self._query(lambda service: service.injector.replace(parsed))

    def now(self) -> datetime:
        """Return the time of the emulator, timezone-aware, in UTC."""
        return self._query(lambda service: service.clock.now())

    def advance(self, by: timedelta) -> None:
        """Move the clock forward: jobs expire, webhooks are retried."""
        self._query(lambda service: service.clock.advance(by))

    def jobs(self) -> list[JobRecord]:
        """Return every accepted job, oldest first."""
        return self._query(lambda service: [record_of(job) for job in service.store.all_jobs()])

    def targets(self) -> dict[str, TargetCount]:
        """Return the counts of every submitted target by URL."""
        return self._query(
            lambda service: {url: dataclasses.replace(count) for url, count in service.store.targets.items()}
        )

    def requests(self) -> dict[str, int]:
        """Return the number of calls of each operation (`create_job`, `get_job`, ...), including failed ones."""
        return self._query(lambda service: dict(service.store.requests))

    def _query(self, query: Callable[[Service], ResultT]) -> ResultT:
        running = self._running
        if running is None:
            raise RuntimeError("the emulator is not started: use it as a context manager")

        async def run_query() -> ResultT:
            return query(running.service)

        if not self.is_alive:
            return query(running.service)
        return asyncio.run_coroutine_threadsafe(run_query(), running.loop).result(_THREAD_TIMEOUT)


def serve(settings: EmulatorSettings, announce: Callable[[Emulator], None]) -> None:
    """Run an emulator in the main thread until SIGINT or SIGTERM. `announce` is called once it is running.

    Raises PortInUseError if the address is in use.
    """
    signals: list[int] = []
    previous = {
        number: signal.signal(number, lambda received, _: signals.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with Emulator(settings=settings) as emulator:
            announce(emulator)
            while not signals and emulator.is_alive:
                time.sleep(0.1)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclasses.dataclass(frozen=True)
class _Running:
    """What other threads need to access the running emulator."""

    service: Service
    loop: asyncio.AbstractEventLoop
    begin_stop: Callable[[], None]

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.begin_stop)


class _Server(uvicorn.Server):
    """A uvicorn server that calls `on_start` once it listens, and stops at once when `stopping` is set."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None], stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def main_loop(self) -> None:
        # uvicorn checks only ten times a second whether to stop, which slows tests that start many emulators.
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.1)


def _run(settings: EmulatorSettings, listener: socket.socket, started: Future[_Running]) -> None:
    try:
        asyncio.run(_serve(settings, listener, started))
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)
    finally:
        listener.close()


async def _serve(settings: EmulatorSettings, listener: socket.socket, started: Future[_Running]) -> None:
    service = Service(settings)
    stopping = asyncio.Event()

    def begin_stop() -> None:
        stopping.set()
        server.should_exit = True

    config = uvicorn.Config(
        make_app(service, stopping),
        http=FaultyProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # the application sends the time of its own clock
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    running = _Running(service, asyncio.get_running_loop(), begin_stop)
    server = _Server(config, lambda: started.set_result(running), stopping)
    try:
        await server.serve(sockets=[listener])
    finally:
        await service.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise PortInUseError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _faults(faults: FaultsLike) -> Faults:
    return faults if isinstance(faults, Faults) else Faults.parse(faults)
