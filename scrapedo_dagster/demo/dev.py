"""`make dev`: the Dagster UI on the demo code location, with an emulator and the demo site to scrape."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from subprocess import Popen

import httpx

from scrapedo_dagster.demo.run import as_ctrl_c
from scrapedo_dagster.demo.services import DemoError, Services, demo_services, program

_HOST = "127.0.0.1"
_USUAL_PORT = 3000
_PATIENCE = 120  # seconds for the UI to answer


def main() -> int:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, as_ctrl_c)
    try:
        port = str(_free_port())
        with (
            demo_services() as services,
            program(
                "dg", "dev", "--use-active-venv", "--host", _HOST, "--port", port, environment=services.environment
            ) as process,
        ):
            _wait_until_it_answers(f"http://{_HOST}:{port}", process)
            print(  # noqa: T201 - what the user waits for
                f"\n  Dagster UI   http://{_HOST}:{port}\n"
                f"  Scrape.do    {services.description}\n"
                f"{_demo_site(services)}"
                "  Try          Assets > catalogue/jobs > Materialize, for a day or several. The sensor brings the\n"
                "               results. Ctrl-C stops everything.\n",
                flush=True,
            )
            return process.wait()
    except DemoError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0


def _demo_site(services: Services) -> str:
    """What a list in the Launchpad may name."""
    site = services.environment.get("SCRAPEDO_DEMO_SITE")
    return f"  Demo site    {site}/2026-01-01/products/1 to 90\n" if site else ""


def _free_port() -> int:
    """The one in PORT; else 3000, or another one if that is taken."""
    wanted = os.environ.get("PORT")
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise DemoError(f"PORT={wanted} is no port: give a number, or leave it out.")
    for port in [int(wanted)] if wanted else [_USUAL_PORT, 0]:
        with socket.socket() as probe:
            # As servers do: a port whose last connections are just closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError(f"Port {wanted or _USUAL_PORT} of {_HOST} is taken: give another one, PORT=..., or leave it out.")


def _wait_until_it_answers(url: str, process: Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"`dg dev` ended with status {process.returncode}; what it said is above.")
        try:
            httpx.get(f"{url}/server_info", timeout=2.0, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.3)
        else:
            return
    raise DemoError(f"The Dagster UI did not answer at {url} within {_PATIENCE} s.")


if __name__ == "__main__":
    sys.exit(main())
