"""`scrapedo-dagster emulator`: a local Scrape.do Async API, until Ctrl-C."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from scrapedo_dagster.emulator.faults import Faults, FaultsError
from scrapedo_dagster.emulator.settings import (
    DEFAULT_PORT,
    DEFAULT_TOKEN,
    EmulatorSettings,
    EmulatorSettingsError,
    Plan,
)

if TYPE_CHECKING:
    from scrapedo_dagster.emulator.server import Emulator


@click.command("emulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--plan",
    type=click.Choice(get_args(Plan)),
    default="business",
    show_default=True,
    help="Sets the size of the concurrency pool and the credits.",
)
@click.option(
    "--token",
    envvar="SCRAPE_DO_API_KEY",
    show_envvar=True,
    help=f"What clients must send as X-Token. {DEFAULT_TOKEN!r} when neither is given.",
)
@click.option("--speed", default=1.0, show_default=True, help="Divides the waiting times; 50 is good for tests.")
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(path_type=Path),
    metavar="FILE.TOML",
    help="What goes wrong: see scrapedo_dagster/emulator/faults.py.",
)
def emulator(host: str, port: int, plan: Plan, token: str | None, speed: float, faults_file: Path | None) -> None:
    """Run a local Scrape.do Async API that costs no credits.

    It fetches the targets for real, but without proxies or a browser. Beyond loopback (--host 0.0.0.0) it
    refuses to fetch private addresses, and the admin endpoints are off.
    """
    try:
        from scrapedo_dagster.emulator.server import PortInUseError, serve
    except ImportError as error:
        raise click.ClickException(
            f"the emulator needs the package {error.name}: pip install 'scrapedo-dagster[emulator]'"
        ) from error
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("scrapedo_dagster.emulator").setLevel(logging.INFO)
    try:
        settings = EmulatorSettings(
            host=host,
            port=port,
            plan=plan,
            token=token or DEFAULT_TOKEN,
            speed=speed,
            faults=Faults.load(faults_file) if faults_file else Faults(),
        )
        serve(settings, lambda running: _announce(running, shows_token=not token))
    except (FaultsError, EmulatorSettingsError) as error:
        raise click.ClickException(str(error)) from error
    except PortInUseError as error:
        raise click.ClickException(f"{error.strerror}; choose another with --host and --port") from error


def _announce(running: Emulator, *, shows_token: bool) -> None:
    click.echo(f"Scrape.do emulator  {running.base_url}")
    click.echo(f"admin endpoints     {running.admin_url or 'off: others can reach this address'}")
    # A token of the user's own may be the real one, and terminals are recorded.
    click.echo(f"token               {running.token if shows_token else 'the one you gave'}")
    click.echo("Ctrl-C stops it.")
