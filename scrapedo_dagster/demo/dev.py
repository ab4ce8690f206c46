"""`make dev`: run the Dagster UI with the demo code location, an emulator and the demo site."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from subprocess import Popen

import httpx

from scrapedo_dagster.demo.run import raise_keyboard_interrupt
from scrapedo_dagster.demo.services import DemoError, Services, demo_services, program

_HOST = "127.0.0.1"
_DEFAULT_PORT = 3000
_START_TIMEOUT = 120  # seconds for the UI to start


def main() -> int:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
    try:
        port = str(_free_port())
        with (
            demo_services() as services,
            program(
                "dg", "dev", "--use-active-venv", "--host", _HOST, "--port", port, environment=services.environment
            ) as process,
        ):
            _wait_for_ui(f"http://{_HOST}:{port}", process)
            print(  # noqa: T201
                f"\n  Dagster UI   http://{_HOST}:{port}\n"
                f"  Scrape.do    {services.description}\n"
                f"{_demo_site_line(services)}"
                "  Try          Assets > catalogue/jobs > Materialize, for one or several days. The sensor collects\n"
                "               the results. Ctrl-C stops everything.\n",
                flush=True,
            )
            return process.wait()
    except DemoError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0


def _demo_site_line(services: Services) -> str:
    """Return the line with URLs to use in ad-hoc lists."""
    site = services.environment.get("SCRAPEDO_DEMO_SITE")
    return f"  Demo site    {site}/2026-01-01/products/1 to 90\n" if site else ""


def _free_port() -> int:
    """Return PORT if it is set, otherwise 3000 or another free port."""
    wanted = os.environ.get("PORT")
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise DemoError(f"PORT={wanted} is not a number: set a port number, or unset PORT.")
    for port in [int(wanted)] if wanted else [_DEFAULT_PORT, 0]:
        with socket.socket() as probe:
            # As servers do, so that a port with closing connections counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError(f"Port {wanted or _DEFAULT_PORT} of {_HOST} is in use: set PORT to another one, or unset it.")


def _wait_for_ui(url: str, process: Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"`dg dev` ended with status {process.returncode}; see its output above.")
        try:
            httpx.get(f"{url}/server_info", timeout=2.0, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.3)
        else:
            return
    raise DemoError(f"The Dagster UI did not start at {url} within {_START_TIMEOUT} s.")


if __name__ == "__main__":
    sys.exit(main())
