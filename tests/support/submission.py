"""Makes submitters with few words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.submission.submitter import Submitter

_OF_SETTINGS = {field.name for field in fields(SubmissionSettings)}


def make_submitter(
    ledger: Ledger,
    client: ScrapeDoAsyncAPIClient,
    ref: PartitionRef,
    *,
    log: Callable[[str], object] = print,
    **arguments: Any,
) -> Submitter:
    """Return a submitter; further arguments are fields of its settings or its own."""
    of_settings = {name: arguments.pop(name) for name in _OF_SETTINGS & arguments.keys()}
    settings = SubmissionSettings(ref, **{"options": ScrapeOptions(), "run_id": None, **of_settings})
    return Submitter(ledger, client, settings, log, **arguments)
