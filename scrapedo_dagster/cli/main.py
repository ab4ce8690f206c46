"""The command `scrapedo-dagster`."""

import click

from scrapedo_dagster._version import __version__
from scrapedo_dagster.cli.emulator import emulator
from scrapedo_dagster.cli.jobs_cancel import cancel_jobs
from scrapedo_dagster.cli.jobs_list import list_jobs
from scrapedo_dagster.cli.jobs_reconcile import reconcile_jobs
from scrapedo_dagster.cli.jobs_show import show_job
from scrapedo_dagster.cli.webhooks import webhooks


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scrapedo-dagster")
def main() -> None:
    """Tools for the Dagster integration of the Scrape.do Async API."""


@click.group("jobs")
def jobs() -> None:
    """Inspect, cancel and reconcile submissions.

    A submission is a batch of up to 1000 targets that is sent to Scrape.do as one job. ScrapeDoResource records all
    submissions in a database, the ledger. These commands never create a ledger.

    Exit status: 0 success; 1 something could not be done or is not known yet, see the output; 2 wrong usage.
    """


for command in (list_jobs, show_job, cancel_jobs, reconcile_jobs):
    jobs.add_command(command)
for group in (jobs, emulator, webhooks):
    main.add_command(group)
