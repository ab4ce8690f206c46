"""`scrapedo-dagster jobs`: read the ledger, and mend it.

The commands import what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scrapedo_dagster.engine.ledger.states import CANCELABLE, OPEN, State

if TYPE_CHECKING:
    import sqlalchemy as sa

    from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets

F = TypeVar("F", bound=Callable[..., Any])

_TOKEN_VARIABLE = "SCRAPE_DO_API_KEY"  # noqa: S105 - the variable's name
_CANCEL_SECONDS = 60.0
_SHOWN_OF_ACCOUNT = 8
_COLUMNS = ("id", "dataset", "partition", "generation", "batch", "state", "targets", "job_id", "reason")
_WIDEST = 60


@click.group("jobs")
def jobs() -> None:
    """Read and mend the ledger: what was submitted, and what became of it.

    The ledger is the one of --ledger-url, of SCRAPE_DO_LEDGER_URL, or the SQLite file
    $DAGSTER_HOME/scrapedo/ledger.db, which ScrapeDoResource uses by default.

    Exit status: 0 all is well; 1 something could not be done or told, and the output says what; 2 wrong usage.
    """


def _ledger_option(command: F) -> F:
    return click.option(
        "--ledger-url",
        envvar="SCRAPE_DO_LEDGER_URL",
        show_envvar=True,
        help="A SQLAlchemy URL, such as sqlite:////path/ledger.db or postgresql+psycopg://user@host/database.",
    )(command)


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="JSON Lines: one object a submission.")(command)


def _service_option(command: F) -> F:
    return click.option(
        "--base-url",
        envvar="SCRAPE_DO_BASE_URL",
        default="https://q.scrape.do",
        show_default=True,
        show_envvar=True,
        help=f"The service, or an emulator of it. The token is read from {_TOKEN_VARIABLE}.",
    )(command)


@jobs.command("list")
@_ledger_option
@click.option("--dataset", help="Only of this dataset: its name, after its key prefix if it has one (us/products).")
@click.option("--partition", help="Only of this partition.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["open", "all", *(state.value for state in State)]),
    default=["open"],
    show_default=True,
    help="Can be repeated. `open` is everything whose outcome is not in Parquet and that was not canceled.",
)
@_json_option
def list_(
    ledger_url: str | None, dataset: str | None, partition: str | None, states: tuple[str, ...], as_json: bool
) -> None:
    """List submissions, oldest first; by default the open ones."""
    with _opened(ledger_url) as ledger:
        found = _matching(ledger.submissions.find(states=_states(states)), dataset, partition)
    if as_json:
        for each in found:
            _tell_json(_as_dict(each))
    elif found:
        _tell_table([_as_dict(each) for each in found])
    else:
        click.echo(f"No submissions ({', '.join(states)}).")


@jobs.command()
@_ledger_option
@click.argument("submission_id", metavar="ID", type=int)
@_json_option
def show(ledger_url: str | None, submission_id: int, as_json: bool) -> None:
    """Show all about one submission."""
    with _opened(ledger_url) as ledger:
        told = _as_dict(_get(ledger, submission_id))
    if as_json:
        _tell_json(told)
        return
    width = max(map(len, told))
    for key, value in told.items():
        click.echo(f"{key:<{width}}  {'-' if value is None else value}")


@jobs.command()
@_ledger_option
@_service_option
@click.argument("submission_ids", metavar="[ID]...", type=int, nargs=-1)
@click.option("--dataset", help="Every open submission of this dataset, instead of ids.")
@click.option("--partition", help="With --dataset: of this partition only.")
@_json_option
def cancel(
    ledger_url: str | None,
    base_url: str,
    submission_ids: tuple[int, ...],
    dataset: str | None,
    partition: str | None,
    as_json: bool,
) -> None:
    """Cancel submissions at Scrape.do and in the ledger.

    What their jobs have already done is billed. A partition with a canceled submission is not collected until its jobs
    are materialised again: that keeps what had ended, and submits the rest.
    """
    if bool(submission_ids) == bool(dataset) or (partition is not None and not dataset):
        raise click.UsageError("give either ids, or --dataset (and --partition)")
    from scrapedo_dagster.engine.submission.cancel import Cancellation, CancelResult, cancel_all

    with _opened(ledger_url) as ledger, _client(base_url) as (client, account):
        if dataset:
            every = ledger.submissions.find(states=CANCELABLE)
            chosen = _of_account(_matching(every, dataset, partition), account)
        else:
            chosen = [_get(ledger, each) for each in dict.fromkeys(submission_ids)]
            _refuse_other_accounts(chosen, account)
        open_ = [each for each in chosen if each.state in CANCELABLE]
        outcomes = {
            outcome.submission.id: outcome
            for outcome in cancel_all(
                ledger, client, open_, reason="canceled by scrapedo-dagster jobs cancel", seconds=_CANCEL_SECONDS
            )
        }
        if not chosen and not as_json:
            click.echo("Nothing to cancel.")
        for each in chosen:
            outcome = outcomes.get(each.id) or Cancellation(each, CancelResult.ENDED)
            _tell(outcome.submission, outcome.result.value, _words_of_fate(outcome), as_json)
        _warn_of_siblings(ledger, chosen, as_json)
    if any(outcome.result == CancelResult.LEFT for outcome in outcomes.values()):
        raise SystemExit(1)


@jobs.command()
@_ledger_option
@_service_option
@_json_option
def reconcile(ledger_url: str | None, base_url: str, as_json: bool) -> None:
    """Find out what became of submissions whose answer is lost, or whose worker died while it sent them.

    Looks for each in Scrape.do's list of jobs. Found: it is adopted. Certainly not there: the next run of its
    partition submits it. A run does the same by itself; this is for those that nobody runs any more.
    """
    from scrapedo_dagster.api import ScrapeDoError

    with _opened(ledger_url) as ledger, _client(base_url) as (client, account):
        unconfirmed = ledger.submissions.find(states=[State.SUBMITTING, State.UNCERTAIN])
        ours = _of_account(unconfirmed, account)
        if not ours and not as_json:
            click.echo("Nothing to reconcile.")
        is_left = False
        for each in ours:
            try:
                found, words = _reconcile(ledger, client, each)
            except ScrapeDoError as error:
                found, words = "left", f"Scrape.do could not be asked: {error}"
            is_left = is_left or found == "left"
            _tell(ledger.submissions.get(each.id), found, words, as_json)
    if is_left:
        raise SystemExit(1)


def _reconcile(ledger: Ledger, client: ScrapeDoAsyncAPIClient, submission: SubmissionWithTargets) -> tuple[str, str]:
    """What was found, as one word and in words."""
    from scrapedo_dagster.engine.errors import LostClaimError
    from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
    from scrapedo_dagster.engine.submission.reconcile import reconcile as reconcile_one

    claim_policy = ClaimPolicy()
    age = ledger.now() - (submission.claimed_at or submission.planned_at)
    if submission.state == State.SUBMITTING and age <= claim_policy.lease:
        run = f"run {submission.run_id}" if submission.run_id else "a worker"
        return "left", (
            f"{run} has been sending it for {_seconds(age)} s; if it is dead, reconcile again in "
            f"{_seconds(claim_policy.lease - age)} s"
        )
    try:
        reconciled = reconcile_one(ledger, client, submission, claim_policy)
    except LostClaimError:
        return "moved", f"another worker has reconciled it: it is {ledger.submissions.get(submission.id).state.value}"
    if reconciled is None:
        wait = claim_policy.absent_after - age
        when = f"reconcile again in {_seconds(wait)} s" if wait > timedelta(0) else "reconcile again later"
        return "left", f"cannot be told yet: it is on no list of Scrape.do, and may still arrive; {when}"
    if reconciled.state == State.SUBMITTED:
        canceled = any(
            each.state == State.CANCELED
            for each in ledger.submissions.with_targets(reconciled.ref, reconciled.generation)
        )
        unwanted = f"; its generation was canceled: `scrapedo-dagster jobs cancel {reconciled.id}`" if canceled else ""
        return "adopted", f"it is job {reconciled.job_id}{unwanted}"
    return "planned", "it never arrived at Scrape.do: the next run of its partition submits it"


def _words_of_fate(outcome: Any) -> str:
    state = outcome.submission.state
    return {
        "canceled": f"job {outcome.submission.job_id} is canceled; what it had done is billed",
        "never sent": "it was not sent yet, and will not be",
        "ended": "its job has ended; its results can be collected"
        if state in {State.FINISHED, State.EXPIRED}
        else f"there is nothing to cancel: it is {state.value}",
        "left": f"could not be canceled and may go on: {outcome.reason}",
    }[outcome.result.value]


def _warn_of_siblings(ledger: Ledger, chosen: Sequence[SubmissionWithTargets], as_json: bool) -> None:
    ids = {each.id for each in chosen}
    generations = {(each.ref, each.generation) for each in chosen}
    for ref, generation in sorted(generations, key=str):
        submissions = ledger.submissions.with_targets(ref, generation)
        others = [each for each in submissions if each.state in OPEN and each.id not in ids]
        if others and any(each.state == State.CANCELED for each in submissions):
            listed = " ".join(str(each.id) for each in others)
            click.echo(
                f"Warning: {ref}, generation {generation} has other open submissions, which are not collected until "
                "its jobs are materialised again, now that it is canceled in part: "
                f"scrapedo-dagster jobs cancel {listed}",
                err=True,
            )


@contextmanager
def _opened(given: str | None) -> Iterator[Ledger]:
    """The ledger, which must be there already. Whatever goes wrong with its database ends as one line."""
    from sqlalchemy.exc import SQLAlchemyError

    from scrapedo_dagster.engine.errors import LedgerSchemaError, LedgerUrlError
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.url import default_url, parse_url

    home = os.environ.get("DAGSTER_HOME")
    if not given and not home:
        raise click.UsageError(
            "which ledger? Give --ledger-url, set SCRAPE_DO_LEDGER_URL, or set DAGSTER_HOME to use the SQLite file "
            "under it."
        )
    try:
        url = parse_url(given) if given else default_url(home or "")
        _must_be_there(url)
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
        raise click.ClickException(f"the ledger at {shown} cannot be used: {reason}") from None
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"a ledger on {url.get_backend_name()} needs the package {error.name}: pip install "
            "'scrapedo-dagster[postgres]'"
        ) from error


def _must_be_there(url: sa.URL) -> None:
    """Refuse to create a ledger: an empty one would say that nothing was ever submitted."""
    import sqlalchemy as sa

    from scrapedo_dagster.engine.ledger.tables import submissions
    from scrapedo_dagster.engine.ledger.url import is_on_this_machine

    shown = url.render_as_string(hide_password=True)
    if is_on_this_machine(url) and not (url.database and os.path.isfile(url.database)):  # noqa: PTH113
        where = url.database or "memory"
        raise click.ClickException(
            f"there is no ledger at {where}. It is made when a dataset is first materialised; if yours is elsewhere, "
            "give --ledger-url or set DAGSTER_HOME to the home of your deployment."
        )
    engine = sa.create_engine(url)
    try:
        if not sa.inspect(engine).has_table(submissions.name):
            raise click.ClickException(
                f"the database {shown} has no ledger. It is made when a dataset is first materialised."
            )
    finally:
        engine.dispose()


@contextmanager
def _client(base_url: str) -> Iterator[tuple[ScrapeDoAsyncAPIClient, str]]:
    """The client of the account whose token is in the environment, and how the ledger calls that account."""
    from scrapedo_dagster.api import RetryPolicy, ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.ledger.records import account_fingerprint

    token = os.environ.get(_TOKEN_VARIABLE)
    if not token:
        raise click.ClickException(f"the Scrape.do token is missing: set {_TOKEN_VARIABLE} to that of the account.")
    try:
        client = ScrapeDoAsyncAPIClient(token, base_url=base_url, timeout=10, retry=RetryPolicy(attempts=3))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    with client:
        yield client, account_fingerprint(token)


def _of_account(submissions: Sequence[SubmissionWithTargets], account: str) -> list[SubmissionWithTargets]:
    ours = [each for each in submissions if each.ref.account == account]
    if len(ours) < len(submissions):
        click.echo(
            f"{len(submissions) - len(ours)} submissions are of other accounts than that of {_TOKEN_VARIABLE} "
            f"({account[:_SHOWN_OF_ACCOUNT]}), and were left alone.",
            err=True,
        )
    return ours


def _refuse_other_accounts(submissions: Sequence[SubmissionWithTargets], account: str) -> None:
    for each in submissions:
        if each.ref.account != account:
            raise click.ClickException(
                f"submission {each.id} is of another account ({each.ref.account[:_SHOWN_OF_ACCOUNT]}) than that of "
                f"{_TOKEN_VARIABLE} ({account[:_SHOWN_OF_ACCOUNT]}; fingerprints of the tokens): nothing was canceled."
            )


def _get(ledger: Ledger, submission_id: int) -> SubmissionWithTargets:
    from scrapedo_dagster.engine.errors import LedgerError

    try:
        return ledger.submissions.get(submission_id)
    except LedgerError as error:
        raise click.ClickException(str(error)) from error


def _states(names: Sequence[str]) -> set[State]:
    chosen: set[State] = set()
    for name in names:
        chosen |= set(State) if name == "all" else OPEN if name == "open" else {State(name)}
    return chosen


def _matching(
    submissions: Sequence[SubmissionWithTargets], dataset: str | None, partition: str | None
) -> list[SubmissionWithTargets]:
    return [
        each
        for each in submissions
        if dataset in {None, each.ref.dataset} and (partition is None or partition == each.ref.partition)
    ]


def _as_dict(submission: SubmissionWithTargets) -> dict[str, Any]:
    """One submission for scripts: these keys stay."""
    return {
        "id": submission.id,
        "account": submission.ref.account,
        "dataset": submission.ref.dataset,
        "partition": submission.ref.partition,
        "generation": submission.generation,
        "batch": submission.batch,
        "attempt": submission.attempt,
        "state": submission.state.value,
        "targets": len(submission.targets),
        "rejected": sum(entry.rejected is not None for entry in submission.entries),
        "succeeded": submission.succeeded,
        "credits": submission.credits,
        "job_id": submission.job_id,
        "run_id": submission.run_id,
        "reason": submission.reason,
        "planned_at": _time(submission.planned_at),
        "claimed_at": _time(submission.claimed_at),
        "submitted_at": _time(submission.submitted_at),
        "finished_at": _time(submission.finished_at),
        "collected_at": _time(submission.collected_at),
        "expires_at": _time(submission.expires_at),
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="seconds")


def _seconds(value: timedelta) -> int:
    return max(1, round(value.total_seconds()))


def _tell(submission: SubmissionWithTargets, found: str, words: str, as_json: bool) -> None:
    if as_json:
        _tell_json({**_as_dict(submission), "found": found, "message": words})
    else:
        click.echo(f"{submission.id}  {submission.ref}, batch {submission.batch}: {words}")


def _tell_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value))


def _tell_table(rows: Sequence[dict[str, Any]]) -> None:
    cells = [_COLUMNS, *(tuple(_cell(row[column]) for column in _COLUMNS) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    text = "-" if value is None else " ".join(str(value).split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
