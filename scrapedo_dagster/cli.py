"""The command `scrapedo-dagster`."""

import click

from scrapedo_dagster._version import __version__
from scrapedo_dagster.emulator.cli import emulator
from scrapedo_dagster.jobs_cli import jobs
from scrapedo_dagster.webhooks.cli import webhooks


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scrapedo-dagster")
def main() -> None:
    """Tools beside the Dagster integration for the Scrape.do Async API."""


main.add_command(emulator)
main.add_command(jobs)
main.add_command(webhooks)
