"""Makes submitters, and submits with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries

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


def submit(submitter: Submitter, urls: Iterable[str], *, reuse_open_jobs: bool = True) -> list[SubmissionWithTargets]:
    """Begin or continue a generation and submit all of it."""
    generation = submitter.begin(validated_entries(urls, "skip"), reuse_open_jobs=reuse_open_jobs)
    return submitter.submit(generation.number)


def once_each(emulator: Emulator, urls: Iterable[str]) -> bool:
    """Return whether these targets, and no others, were submitted, each once."""
    return {url: count.submitted for url, count in emulator.targets().items()} == dict.fromkeys(urls, 1)
