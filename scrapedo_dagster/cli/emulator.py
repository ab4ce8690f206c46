"""`scrapedo-dagster emulator`."""

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
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="Port to listen on; 0 selects a free one.")
@click.option(
    "--plan",
    type=click.Choice(get_args(Plan)),
    default="business",
    show_default=True,
    help="Plan of the account; sets concurrency and credits.",
)
@click.option(
    "--token",
    envvar="SCRAPE_DO_API_KEY",
    show_envvar=True,
    help=f"Token that clients must send as X-Token. Default: {DEFAULT_TOKEN!r}.",
)
@click.option("--speed", default=1.0, show_default=True, help="Divides the waiting times of jobs; 50 suits tests.")
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(path_type=Path),
    metavar="FILE.TOML",
    help="Faults to inject, such as lost answers or 429. Format: scrapedo_dagster/emulator/faults.py.",
)
def emulator(host: str, port: int, plan: Plan, token: str | None, speed: float, faults_file: Path | None) -> None:
    """Run a local Scrape.do Async API without credits, until Ctrl-C.

    It fetches the targets over HTTP, without proxies or a browser. Beyond loopback (--host 0.0.0.0) it does not fetch
    private addresses, and has no admin endpoints. To use it, set base_url and api_token of ScrapeDoResource to what it
    prints.
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
        serve(settings, lambda running: _print_addresses(running, shows_token=not token))
    except (FaultsError, EmulatorSettingsError) as error:
        raise click.ClickException(str(error)) from error
    except PortInUseError as error:
        raise click.ClickException(f"{error.strerror}; choose another with --host and --port") from error


def _print_addresses(running: Emulator, *, shows_token: bool) -> None:
    click.echo(f"Scrape.do emulator  {running.base_url}")
    click.echo(f"admin endpoints     {running.admin_url or 'off: other machines can reach this address'}")
    # A token of the user may be a real one, and terminals are recorded.
    click.echo(f"token               {running.token if shows_token else 'as configured'}")
    click.echo("Ctrl-C stops it.")
