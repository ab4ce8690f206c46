"""Cost of submitting 100,000 targets. `python benchmarks/submitting.py [--quick]`."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from harness import Figure, Goal, Measured, Meter, Section, Table, Worker, main, median_of, rounds
from local_service import TOKEN, Service, urls

BATCH = 1000
ROOT = Path(__file__).resolve().parents[1]
MEANING = """
From a list of targets to jobs: each target is validated, all batches of 1000 are recorded in one transaction, and each
is claimed before it is sent and recorded afterwards. The peer is the public SDK, which sends the same jobs and records
nothing. Seconds are CPU time of the client process. The Postgres server runs on the same machine and does not sync;
SQLite syncs. Rows and bytes are those of the ledger, which compresses URLs and task ids.
""".strip().replace("\n", " ")


def ours(meter: Meter, *, url: str, targets: int, postgres: str | None) -> dict[str, Any]:
    """Plan, claim and send with a new ledger."""
    from scrapedo_dagster.api import ScrapeDoAsyncAPIClient, ScrapeOptions
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
    from scrapedo_dagster.engine.submission.settings import SubmissionSettings
    from scrapedo_dagster.engine.submission.submitter import Submitter
    from scrapedo_dagster.engine.targets.validation import validated_entries

    listed = urls(targets)
    with tempfile.TemporaryDirectory(prefix="scrapedo-benchmark-") as directory, ExitStack() as stack:
        ledger = Ledger(f"sqlite:///{directory}/ledger.db" if postgres is None else _schema_of(postgres))
        stack.callback(ledger.close)
        client = stack.enter_context(ScrapeDoAsyncAPIClient(TOKEN, base_url=url))
        ref = PartitionRef(account_fingerprint(TOKEN), "shop", None)
        submitter = Submitter(ledger, client, SubmissionSettings(ref, ScrapeOptions(), run_id="run"), print)
        ledger.now()  # opens the database
        with meter:
            generation = submitter.begin(validated_entries(listed, "raise"))
            submissions = submitter.submit(generation.number)
        if [each.job_id is None for each in submissions] != [False] * -(-targets // BATCH):
            raise ValueError("not all targets are submitted")
        return {"rows": len(submissions) + 1, "bytes": _bytes_of(ledger)}


def sdk(meter: Meter, *, url: str, targets: int) -> dict[str, Any]:
    """Send the same jobs with the public SDK."""
    from scrape_do.async_api import ScrapeDoAsyncAPIClient

    class Client(ScrapeDoAsyncAPIClient):
        BASE_URL = url

    listed = urls(targets)
    with Client(TOKEN) as client, meter:
        for first in range(0, targets, BATCH):
            client.create_job(targets=listed[first : first + BATCH])
    return {}


def _schema_of(postgres: str) -> str:
    """Return the URL of a new schema of the server."""
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import postgres_schema

    return postgres_schema(postgres, uuid4().hex)


def _bytes_of(ledger: Any) -> int:
    import sqlalchemy as sa

    with ledger.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            tables = ("scrapedo_submissions", "scrapedo_generations")
            sizes = [sa.func.pg_total_relation_size(table) for table in tables]
        else:
            sizes = [sa.text("(SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size())")]
        return sum(connection.execute(sa.select(*sizes)).one())


def measure(quick: bool) -> Section:
    """Measure SQLite, Postgres and the SDK."""
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import NoPostgresError, postgres_server

    targets, times = (2_000, 1) if quick else (100_000, 5)
    with ExitStack() as stack:
        service = stack.enter_context(Service())
        worker, peer = (stack.enter_context(Worker(__file__, body)) for body in ("ours", "sdk"))

        def variants(targets: int) -> dict[str, partial[Measured]]:
            given = {"url": service.url, "targets": targets}
            with_ledgers = {name: partial(worker.run, **given, postgres=postgres) for name, postgres in ledgers.items()}
            return {**with_ledgers, "SDK": partial(peer.run, **given)}

        ledgers: dict[str, str | None] = {"SQLite": None}
        try:
            ledgers["Postgres"] = stack.enter_context(postgres_server())
        except NoPostgresError as error:
            print(f"Skipped Postgres: {error}.")  # noqa: T201
        rounds(1, variants(BATCH))  # loads libraries
        found = rounds(times, {name: partial(_run_and_forget, service, run) for name, run in variants(targets).items()})
    goals = () if quick else (Goal("at most", 30, "value"),)
    figures = tuple(
        Figure(
            f"{targets:,} targets submitted, {name}",
            "s of CPU",
            tuple(each.cpu for each in found[name]),
            "SDK, create_job alone",
            tuple(each.cpu for each in found["SDK"]),
            goals,
        )
        for name in ledgers
    )
    rows = tuple(
        (
            name,
            median_of([each.wall for each in found[name]]),
            str(last["rows"]),
            f"{last['bytes'] / 1e6:.1f}",
            f"{last['bytes'] / targets:.0f}",
        )
        for name, last in ((name, found[name][-1].result) for name in ledgers)
    )
    table = Table(("ledger", "wall, s", "rows", "MB", "bytes per target"), rows, "Size of the ledger.")
    return Section("Submitting", MEANING, figures, (table,))


def _run_and_forget(service: Service, run: partial[Measured]) -> Measured:
    measured = run()
    service.forget()
    return measured


if __name__ == "__main__":
    main(measure, {"ours": ours, "sdk": sdk})
