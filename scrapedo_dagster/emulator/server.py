"""Runs the emulator: `Emulator` beside the caller, in a thread, and `serve` until a signal comes."""

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

from scrapedo_dagster.emulator.answers import FaultyProtocol
from scrapedo_dagster.emulator.app import make_app
from scrapedo_dagster.emulator.faults import Faults
from scrapedo_dagster.emulator.service import Service
from scrapedo_dagster.emulator.settings import DEFAULT_TOKEN, EmulatorSettings, Plan
from scrapedo_dagster.emulator.state import JobRecord, TargetCount, record_of

_PATIENCE: Final = 30.0  # seconds for the thread to start, to answer, or to end
_GRACE: Final = 2  # seconds for calls in flight when the emulator stops

ResultT = TypeVar("ResultT")
FaultsLike = Faults | Mapping[str, Any]


class PortInUseError(OSError):
    """The address cannot be listened on, most often because something else already does."""


class Emulator:
    """A running Scrape.do Async API on this machine; a context manager.

    plan: free, hobby, pro, business or advanced: the concurrency pool and the credits.
    token: what clients send as `X-Token`.
    speed: divides the emulator's own waiting times; with 50 a task holds its slot for 20 ms and the fetch.
    credits: credits to start with, the plan's by default.
    faults: `Faults`, or a mapping of the same shape, such as parsed TOML.
    settings: all of it at once (see `EmulatorSettings`), instead of the others.

    Everything here may be called from any thread. Jobs and counts can still be read after it has stopped.
    """

    def __init__(
        self,
        *,
        plan: Plan = "business",
        token: str = DEFAULT_TOKEN,
        speed: float = 1.0,
        credits: int | None = None,  # noqa: A002 - the service's word
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
        """Where it listens, and never its token."""
        where = self.base_url if self._running else "not started"
        return f"<Emulator {where} plan={self.settings.plan}>"

    def __enter__(self) -> Emulator:  # noqa: PYI034 - Self is of Python 3.11
        """Listen and serve. PortInUseError when the address is taken."""
        if self._thread is not None:
            raise RuntimeError("this emulator was started before; make a new one")
        listener = _listen(self.settings.host, self.settings.port)
        self._address = listener.getsockname()[:2]
        started: Future[_Running] = Future()
        self._thread = threading.Thread(
            target=_run, args=(self.settings, listener, started), name="scrapedo-emulator", daemon=True
        )
        self._thread.start()
        self._running = started.result(_PATIENCE)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and wait until nothing is left of it."""
        if self._running is not None and self._thread is not None:
            if self.is_alive:
                self._running.stop()
            self._thread.join(_PATIENCE)

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def base_url(self) -> str:
        """What takes the place of https://q.scrape.do; without the `/api/v1`."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def admin_url(self) -> str | None:
        """Where the admin endpoints are; None when others can reach the emulator, and they are off."""
        return f"{self.base_url}/admin" if self.settings.is_private else None

    @property
    def token(self) -> str:
        """What clients send as `X-Token`."""
        return self.settings.token

    @property
    def credits(self) -> int:
        """Credits left. What running tasks may cost is already set aside."""
        return self._ask(lambda service: service.account.credits)

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self._ask(lambda service: service.chaos.faults)

    def set_faults(self, faults: FaultsLike) -> None:
        """Put other faults in force, instead of all before, and start their counts anew. `{}` ends them all."""
        parsed = _faults(faults)
        self._ask(lambda service: service.chaos.replace(parsed))

    def now(self) -> datetime:
        """The emulator's time, aware, in UTC."""
        return self._ask(lambda service: service.clock.now())

    def advance(self, by: timedelta) -> None:
        """Move the emulator's clock forward: jobs expire, webhooks are repeated."""
        self._ask(lambda service: service.clock.advance(by))

    def jobs(self) -> list[JobRecord]:
        """Every job ever accepted, oldest first."""
        return self._ask(lambda service: [record_of(job) for job in service.store.all_jobs()])

    def targets(self) -> dict[str, TargetCount]:
        """Counts of every target ever submitted, by its URL as it was submitted."""
        return self._ask(
            lambda service: {url: dataclasses.replace(count) for url, count in service.store.targets.items()}
        )

    def requests(self) -> dict[str, int]:
        """Calls of each operation, faulty and refused ones included: create_job, get_job, get_task, ..."""
        return self._ask(lambda service: dict(service.store.requests))

    def _ask(self, question: Callable[[Service], ResultT]) -> ResultT:
        running = self._running
        if running is None:
            raise RuntimeError("the emulator is not started: use it as a context manager")

        async def answer() -> ResultT:
            return question(running.service)

        if not self.is_alive:
            return question(running.service)
        return asyncio.run_coroutine_threadsafe(answer(), running.loop).result(_PATIENCE)


def serve(settings: EmulatorSettings, announce: Callable[[Emulator], None]) -> None:
    """Run an emulator until SIGINT or SIGTERM. `announce` is called once it answers. For the main thread.

    PortInUseError when the address is taken.
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
    """What another thread needs of the thread that serves."""

    service: Service
    loop: asyncio.AbstractEventLoop
    begin_stop: Callable[[], None]

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.begin_stop)


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens, and ends at once. In a thread it leaves signals alone."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None], stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether to end. Suites that start many emulators feel that.
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
        date_header=False,  # the app sends that of its own clock
        timeout_graceful_shutdown=_GRACE,
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
