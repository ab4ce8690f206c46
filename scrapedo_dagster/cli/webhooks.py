"""`scrapedo-dagster webhooks`: receive results by webhook until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import click

from scrapedo_dagster.cli.ledger_access import ledger_option, resolve_ledger_url

_MEGABYTE = 2**20


@click.command("webhooks")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8766, show_default=True, help="Port to listen on.")
@ledger_option
@click.option("--max-body", default=16, show_default=True, type=click.IntRange(1), help="Megabytes of one delivery.")
@click.option("--request-timeout", default=30.0, show_default=True, type=click.FloatRange(1), help="Seconds.")
def webhooks(host: str, port: int, ledger_url: str | None, max_body: int, request_timeout: float) -> None:
    """Receive Scrape.do's webhooks and store them in the ledger's database until they are collected.

    The secret is read from SCRAPE_DO_WEBHOOK_SECRET, and while it is exchanged, the old one from
    SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS. Put a proxy with TLS in front. Each request is a line of JSON on stdout.
    """
    try:
        from scrapedo_dagster.webhooks.server import serve
    except ImportError as error:
        raise click.ClickException(
            f"the receiver needs the package {error.name}: pip install 'scrapedo-dagster[webhooks]'"
        ) from error
    from scrapedo_dagster.engine.inbox.inbox import Inbox
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.webhooks.access_log import AccessLog
    from scrapedo_dagster.webhooks.app import Receiver, ReceiverLimits
    from scrapedo_dagster.webhooks.secrets import Secrets

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        secrets = Secrets.from_environment(os.environ)
        ledger = Ledger(resolve_ledger_url(ledger_url))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    log = AccessLog(sys.stdout, secrets)
    limits = ReceiverLimits(max_body=max_body * _MEGABYTE, request_seconds=request_timeout)
    log.write("starting", host=host, port=port, ledger=repr(ledger), secrets=len(secrets.values))
    try:
        asyncio.run(serve(Receiver(secrets, ledger, Inbox(ledger), log, limits), host, port))
    finally:
        ledger.close()
    # Threads of Granian's embedded server may abort the process while the interpreter shuts down.
    sys.stdout.flush()
    os._exit(0)
