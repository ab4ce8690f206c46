"""Services of the demo: Scrape.do, or an emulator and a web site on this machine."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scrapedo_dagster.api import DEFAULT_BASE_URL
from scrapedo_dagster.api.requests import check_target
from scrapedo_dagster.demo.definitions import DATA, urls_in
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite

OWN_DATA = "scraped"
"""Directory of the results for the URLs of TARGETS."""

LEDGER_URL = "sqlite:///dagster_home/scrapedo/ledger.db"

_STOP_TIMEOUT = 15  # seconds for a started program to stop
_SPEED = 5  # of the emulator


class DemoError(Exception):
    """The demo cannot run. The message says what to do."""


@dataclass(frozen=True)
class Services:
    """Description, account, directory of the results, and environment of started programs."""

    description: str
    token: str = field(repr=False)
    base_url: str
    data: str
    environment: dict[str, str] = field(repr=False)


@contextmanager
def demo_services() -> Iterator[Services]:
    """Start the services, and stop them when the `with` block ends.

    Raises:
        DemoError: not in the root of the repository, or a setting of the real service is missing.
    """
    home = Path("dagster_home").absolute()
    if not (home / "dagster.yaml").is_file():
        raise DemoError("Run this command in the root of the repository: dagster_home/dagster.yaml is missing here.")
    # Otherwise dg warns that the virtual environment is not activated.
    environment = {**os.environ, "DAGSTER_HOME": str(home), "VIRTUAL_ENV": sys.prefix}
    if targets := os.environ.get("TARGETS"):
        token, path = _real_service(targets)
        # Apart from the results of the emulator, which the next `make demo` replaces.
        settings = {"TARGETS": str(path), "SCRAPEDO_DEMO_DATA": OWN_DATA}
        base_url = os.environ.get("SCRAPE_DO_BASE_URL", DEFAULT_BASE_URL)
        yield Services(
            f"the real service, for the URLs in {targets}", token, base_url, OWN_DATA, environment | settings
        )
        return
    # A new account each time: a new emulator does not know the jobs of earlier ones.
    with DemoSite() as site, Emulator(speed=_SPEED, token=f"demo-{secrets.token_hex(8)}") as emulator:
        # Separate names: dg lets a .env file override the environment, and it may contain a real token.
        settings = {
            "SCRAPEDO_DEMO_SITE": site.base_url,
            "SCRAPEDO_DEMO_TOKEN": emulator.token,
            "SCRAPEDO_DEMO_BASE_URL": emulator.base_url,
        }
        description = f"an emulator of Scrape.do ({emulator.base_url}), which is free"
        yield Services(description, emulator.token, emulator.base_url, DATA, environment | settings)


def _real_service(targets: str) -> tuple[str, Path]:
    path = Path(targets).absolute()
    if not path.is_file():
        raise DemoError(f"TARGETS={targets} is not a file: set it to a text file with one URL per line.")
    token = os.environ.get("SCRAPE_DO_API_KEY")
    if not token:
        raise DemoError("The real service scrapes the URLs of TARGETS and needs your token: set SCRAPE_DO_API_KEY too.")
    try:
        urls = urls_in(path)
        for url in urls:
            check_target(url)
    except ValueError as error:  # includes invalid UTF-8
        raise DemoError(f"{targets}: {error}. Nothing was submitted: correct the file.") from None
    if not urls:
        raise DemoError(f"{targets} has no URLs: add one per line.")
    return token, path


@contextmanager
def program(*arguments: str, environment: dict[str, str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program of this virtual environment, and stop it when the `with` block ends."""
    executable = Path(sys.executable).parent / arguments[0]
    with log.open("wb") if log else nullcontext() as output:
        process = subprocess.Popen(  # noqa: S603 - program and arguments are fixed
            [str(executable), *arguments[1:]], env=environment, stdout=output, stderr=subprocess.STDOUT if log else None
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Ctrl-C in a terminal reaches the program too. Signal it only if it does not stop by itself.
    for stop in (None, process.terminate, process.kill):
        if stop and process.poll() is None:
            stop()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT if stop or process.poll() is not None else 0.5)
            return
