"""`scrapedo-dagster webhooks`: receive results as they come, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys

import click

_MEGABYTE = 2**20


@click.command("webhooks")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8766, show_default=True, help="Port to listen on.")
@click.option(
    "--inbox",
    metavar="URI",
    envvar="SCRAPE_DO_WEBHOOK_INBOX",
    show_envvar=True,
    help="A directory, or a URI such as s3://bucket/inbox: the webhook_inbox of the resource. By default the inbox is "
    "in the ledger's database.",
)
@click.option(
    "--ledger-url",
    envvar="SCRAPE_DO_LEDGER_URL",
    show_envvar=True,
    help="The ledger, as a SQLAlchemy URL. Without it every submission counts as known, and --inbox is needed.",
)
@click.option("--max-body", default=16, show_default=True, type=click.IntRange(1), help="Megabytes of a delivery.")
@click.option("--request-timeout", default=30.0, show_default=True, type=click.FloatRange(1), help="Seconds.")
def webhooks(
    host: str, port: int, inbox: str | None, ledger_url: str | None, max_body: int, request_timeout: float
) -> None:
    """Receive Scrape.do's webhooks and store them for whoever collects.

    The secret is read from SCRAPE_DO_WEBHOOK_SECRET; while it is exchanged, the one before from
    SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS. Put a proxy with TLS before it. Each request is a line of JSON on stdout.
    """
    try:
        from scrapedo_dagster.webhooks.server import make_server
    except ImportError as error:
        raise click.ClickException(
            f"the receiver needs the package {error.name}: pip install 'scrapedo-dagster[webhooks]'"
        ) from error
    from scrapedo_dagster.engine.inbox.opening import open_inbox
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.webhooks.app import Receiver
    from scrapedo_dagster.webhooks.log import Log
    from scrapedo_dagster.webhooks.secrets import Secrets

    if inbox is None and ledger_url is None:
        raise click.UsageError("Give --inbox, or --ledger-url: the inbox is then in the ledger's database.")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        secrets = Secrets.from_environment(os.environ)
        ledger = None if ledger_url is None else Ledger(ledger_url)
        opened = open_inbox(inbox, ledger)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    log = Log(sys.stdout, secrets)
    receiver = Receiver(
        secrets, opened, log, ledger=ledger, max_body=max_body * _MEGABYTE, request_seconds=request_timeout
    )
    log.write("starting", host=host, port=port, inbox=repr(opened), secrets=len(secrets.values))
    try:
        make_server(receiver, host, port).run()
    finally:
        opened.close()
        if ledger is not None:
            ledger.close()
