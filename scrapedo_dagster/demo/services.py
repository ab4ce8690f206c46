"""What the demo runs against: the real service, or an emulator and a web site on this machine."""

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
"""Where the results of one's own URLs go."""

LEDGER_URL = "sqlite:///dagster_home/scrapedo/ledger.db"

_PATIENCE = 15  # seconds for a program of ours to stop by itself
_SPEED = 5  # how much faster than the real service the emulator works


class DemoError(Exception):
    """The demo cannot run; the message says what to do."""


@dataclass(frozen=True)
class Services:
    """Where the demo scrapes, in words; with which account; where its results go; what its programs need to know."""

    description: str
    token: str = field(repr=False)
    base_url: str
    data: str
    environment: dict[str, str] = field(repr=False)


@contextmanager
def demo_services() -> Iterator[Services]:
    """The services, running until the block ends.

    Raises:
        DemoError: not started from the repository, or half of what the real service needs is missing.
    """
    home = Path("dagster_home").absolute()
    if not (home / "dagster.yaml").is_file():
        raise DemoError("Run this in the root of the repository: there is no dagster_home/dagster.yaml here.")
    # dg warns about a virtual environment that it finds but that is not activated.
    environment = {**os.environ, "DAGSTER_HOME": str(home), "VIRTUAL_ENV": sys.prefix}
    if targets := os.environ.get("TARGETS"):
        token, path = _real_service(targets)
        # QuarantineUsage from what the emulator brings, which the next `make demo` replaces.
        own = {"TARGETS": str(path), "SCRAPEDO_DEMO_DATA": OWN_DATA}
        base_url = os.environ.get("SCRAPE_DO_BASE_URL", DEFAULT_BASE_URL)
        yield Services(f"the real service, for the URLs in {targets}", token, base_url, OWN_DATA, environment | own)
        return
    # Another account each time: an emulator knows nothing of the jobs of those before it.
    with DemoSite() as site, Emulator(speed=_SPEED, token=f"demo-{secrets.token_hex(8)}") as emulator:
        # Names of their own: dg reads a .env file over the environment, and a real token may be in it.
        ours = {
            "SCRAPEDO_DEMO_SITE": site.base_url,
            "SCRAPEDO_DEMO_TOKEN": emulator.token,
            "SCRAPEDO_DEMO_BASE_URL": emulator.base_url,
        }
        words = f"an emulator of Scrape.do ({emulator.base_url}), which costs nothing"
        yield Services(words, emulator.token, emulator.base_url, DATA, environment | ours)


def _real_service(targets: str) -> tuple[str, Path]:
    path = Path(targets).absolute()
    if not path.is_file():
        raise DemoError(f"TARGETS={targets} is not a file. Give it a text file with one URL a line.")
    token = os.environ.get("SCRAPE_DO_API_KEY")
    if not token:
        raise DemoError("TARGETS is scraped by the real service, which needs your token: set SCRAPE_DO_API_KEY too.")
    try:
        urls = urls_in(path)
        for url in urls:
            check_target(url)
    except ValueError as error:  # also what is no UTF-8
        raise DemoError(f"{targets}: {error}. Nothing was submitted; correct the list.") from None
    if not urls:
        raise DemoError(f"{targets} has no URLs: write one a line.")
    return token, path


@contextmanager
def program(*arguments: str, environment: dict[str, str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this virtual environment, which is stopped when the block ends, however it ends."""
    executable = Path(sys.executable).parent / arguments[0]
    with log.open("wb") if log else nullcontext() as output:
        process = subprocess.Popen(  # noqa: S603 - a program of ours with arguments of ours
            [str(executable), *arguments[1:]], env=environment, stdout=output, stderr=subprocess.STDOUT if log else None
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Ctrl-C in a terminal has reached the program too. It is told once more only if it goes on.
    for tell in (None, process.terminate, process.kill):
        if tell and process.poll() is None:
            tell()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE if tell or process.poll() is not None else 0.5)
            return
