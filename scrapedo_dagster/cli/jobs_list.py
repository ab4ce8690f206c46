"""`scrapedo-dagster jobs list`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from scrapedo_dagster.cli.ledger_access import json_option, ledger_option, of_partition, open_ledger
from scrapedo_dagster.cli.output import print_json, print_table, submission_as_dict
from scrapedo_dagster.engine.ledger.states import OPEN, State


@click.command("list", epilog="Example: scrapedo-dagster jobs list --dataset products --state all")
@ledger_option
@click.option("--dataset", help="Only this dataset: its name, with its key prefix if it has one (us/products).")
@click.option("--partition", help="Only this partition.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["open", "all", *(state.value for state in State)]),
    default=["open"],
    show_default=True,
    help="Only this state; can be repeated. `open`: not canceled, and the results are not in Parquet yet.",
)
@json_option
def list_jobs(
    ledger_url: str | None, dataset: str | None, partition: str | None, states: tuple[str, ...], as_json: bool
) -> None:
    """List submissions, oldest first; by default the open ones."""
    with open_ledger(ledger_url) as ledger:
        found = of_partition(ledger.submissions.find(states=_states(states)), dataset, partition)
    if as_json:
        for each in found:
            print_json(submission_as_dict(each))
    elif found:
        print_table(found)
    else:
        click.echo(f"No submissions ({', '.join(states)}).")


def _states(names: Sequence[str]) -> set[State]:
    chosen: set[State] = set()
    for name in names:
        chosen |= set(State) if name == "all" else OPEN if name == "open" else {State(name)}
    return chosen
