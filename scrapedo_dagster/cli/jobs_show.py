"""`scrapedo-dagster jobs show`."""

from __future__ import annotations

import click

from scrapedo_dagster.cli.ledger_access import get_submission, json_option, ledger_option, open_ledger
from scrapedo_dagster.cli.output import print_json, submission_as_dict


@click.command("show")
@ledger_option
@click.argument("submission_id", metavar="ID", type=int)
@json_option
def show_job(ledger_url: str | None, submission_id: int, as_json: bool) -> None:
    """Show all fields of one submission. `jobs list` prints the ids."""
    with open_ledger(ledger_url) as ledger:
        fields = submission_as_dict(get_submission(ledger, submission_id))
    if as_json:
        print_json(fields)
        return
    width = max(map(len, fields))
    for key, value in fields.items():
        click.echo(f"{key:<{width}}  {'-' if value is None else value}")
