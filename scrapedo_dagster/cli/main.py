"""The command `scrapedo-dagster`."""

import click

from scrapedo_dagster._version import __version__
from scrapedo_dagster.cli.emulator import emulator
from scrapedo_dagster.cli.jobs import jobs
from scrapedo_dagster.cli.webhooks import webhooks


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scrapedo-dagster")
def main() -> None:
    """Tools beside the Dagster integration for the Scrape.do Async API."""


main.add_command(emulator)
main.add_command(jobs)
main.add_command(webhooks)
