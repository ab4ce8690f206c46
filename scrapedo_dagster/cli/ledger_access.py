"""What the commands share: options, the ledger, the client of the account, selecting submissions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import sqlalchemy as sa

    from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets

# Libraries are imported when a command runs, so that `--help` is quick.

TOKEN_VARIABLE = "SCRAPE_DO_API_KEY"  # noqa: S105 - name of the variable
_SHOWN_FINGERPRINT = 8  # characters

ledger_option = click.option(
    "--ledger-url",
    envvar="SCRAPE_DO_LEDGER_URL",
    show_envvar=True,
    help="SQLAlchemy URL of the ledger, such as sqlite:////path/ledger.db or postgresql+psycopg://user@host/database. "
    "Default: the SQLite file $DAGSTER_HOME/scrapedo/ledger.db.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object per submission.")

base_url_option = click.option(
    "--base-url",
    envvar="SCRAPE_DO_BASE_URL",
    default="https://q.scrape.do",
    show_default=True,
    show_envvar=True,
    help=f"URL of the service, or of an emulator. The token is read from {TOKEN_VARIABLE}.",
)


def resolve_ledger_url(ledger_url: str | None) -> sa.URL:
    """Return the URL of the ledger, which is in the Dagster home by default.

    Raises:
        LedgerUrlError: `ledger_url` is not a SQLAlchemy URL.
    """
    from scrapedo_dagster.engine.ledger.url import default_url, parse_url

    home = os.environ.get("DAGSTER_HOME")
    if not ledger_url and not home:
        raise click.UsageError("the ledger is unknown: pass --ledger-url, or set SCRAPE_DO_LEDGER_URL or DAGSTER_HOME.")
    return parse_url(ledger_url) if ledger_url else default_url(home or "")


@contextmanager
def open_ledger(ledger_url: str | None) -> Iterator[Ledger]:
    """Open an existing ledger. Errors of its database become one-line messages."""
    from sqlalchemy.exc import SQLAlchemyError

    from scrapedo_dagster.engine.errors import LedgerSchemaError, LedgerUrlError
    from scrapedo_dagster.engine.ledger.ledger import Ledger

    try:
        url = resolve_ledger_url(ledger_url)
        _require_ledger(url)
        ledger = Ledger(url)
        try:
            yield ledger
        finally:
            ledger.close()
    except (LedgerUrlError, LedgerSchemaError) as error:
        raise click.ClickException(str(error)) from error
    except SQLAlchemyError as error:
        shown = url.render_as_string(hide_password=True)
        reason = str(getattr(error, "orig", None) or error).strip()
        if url.password:
            reason = reason.replace(str(url.password), "***")
        raise click.ClickException(f"ledger {shown}: cannot be opened: {reason}") from None
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"a ledger on {url.get_backend_name()} needs the package {error.name}: pip install "
            "'scrapedo-dagster[postgres]'"
        ) from error


def _require_ledger(url: sa.URL) -> None:
    """Raise if there is no ledger. Creating an empty one would suggest that nothing was ever submitted."""
    import sqlalchemy as sa

    from scrapedo_dagster.engine.ledger.tables import submissions
    from scrapedo_dagster.engine.ledger.url import is_on_this_machine

    if is_on_this_machine(url) and not (url.database and os.path.isfile(url.database)):  # noqa: PTH113
        raise click.ClickException(
            f"there is no ledger at {url.database or 'memory'}. The first materialization of a dataset creates it. If "
            "yours is elsewhere, pass --ledger-url, or set DAGSTER_HOME to that of your deployment."
        )
    engine = sa.create_engine(url)
    try:
        if not sa.inspect(engine).has_table(submissions.name):
            raise click.ClickException(
                f"the database {url.render_as_string(hide_password=True)} has no ledger. The first materialization of "
                "a dataset creates it."
            )
    finally:
        engine.dispose()


@contextmanager
def account_client(base_url: str) -> Iterator[tuple[ScrapeDoAsyncAPIClient, str]]:
    """Open a client with the token of the environment. Yields it with the fingerprint of its account."""
    from scrapedo_dagster.api import RetryPolicy, ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.ledger.records import account_fingerprint

    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise click.ClickException(f"the Scrape.do token is missing: set {TOKEN_VARIABLE} to the token of the account.")
    try:
        client = ScrapeDoAsyncAPIClient(token, base_url=base_url, timeout=10, retry=RetryPolicy(attempts=3))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    with client:
        yield client, account_fingerprint(token)


def get_submission(ledger: Ledger, submission_id: int) -> SubmissionWithTargets:
    """Return a submission by id. Raises ClickException if there is none."""
    from scrapedo_dagster.engine.errors import LedgerError

    try:
        return ledger.submissions.get(submission_id)
    except LedgerError as error:
        raise click.ClickException(str(error)) from error


def of_partition(
    submissions: Sequence[SubmissionWithTargets], dataset: str | None, partition: str | None
) -> list[SubmissionWithTargets]:
    """Return the submissions of a dataset and a partition; None selects all."""
    return [
        each for each in submissions if dataset in {None, each.ref.dataset} and partition in {None, each.ref.partition}
    ]


def of_account(submissions: Sequence[SubmissionWithTargets], account: str) -> list[SubmissionWithTargets]:
    """Return the submissions of an account, and print how many belong to other accounts."""
    found = [each for each in submissions if each.ref.account == account]
    if others := len(submissions) - len(found):
        click.echo(
            f"Skipped {others} submissions of other accounts than that of {TOKEN_VARIABLE} "
            f"({account[:_SHOWN_FINGERPRINT]}).",
            err=True,
        )
    return found


def require_account(submissions: Sequence[SubmissionWithTargets], account: str) -> None:
    """Raise ClickException if a submission belongs to another account."""
    for each in submissions:
        if each.ref.account != account:
            raise click.ClickException(
                f"submission {each.id} belongs to another account ({each.ref.account[:_SHOWN_FINGERPRINT]}) than "
                f"{TOKEN_VARIABLE} ({account[:_SHOWN_FINGERPRINT]}; both are fingerprints of the tokens). Nothing was "
                "canceled."
            )
