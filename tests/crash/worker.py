"""What a Dagster run does with a partition, as one function: submit its targets, wait, collect."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from points import Points, WatchedTransport, watch_async_requests, watch_files, watch_ledger

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.api.retry import Backoff
from scrapedo_dagster.engine.collection.coordinator import collect_generations
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries

_OFTEN = Backoff(initial=0.04, maximum=0.04, multiplier=1)


def work(spec: dict[str, Any]) -> None:
    """Do the work of `spec` (see `Work` in conftest.py), and die on the way if it says so."""
    point = Points(spec["trail"], spec["deadly"], spec["by"])
    data = Path(spec["data"])
    watch_ledger(point)
    watch_files(point, data)
    watch_async_requests(point)
    if spec["steps"] == "record":
        _record(spec)
        return
    store = ParquetStore(str(data))
    tables = PartitionTables(
        store.table(["shop", "tasks"], TASKS_SCHEMA), store.table(["shop", "contents"], CONTENTS_SCHEMA), "mon"
    )
    account = {"api_token": spec["token"], "base_url": spec["base_url"], "max_concurrency": 2}

    def async_client() -> AsyncScrapeDoAsyncAPIClient:
        return AsyncScrapeDoAsyncAPIClient(**account)

    with ScrapeDoAsyncAPIClient(**account, transport=WatchedTransport(point)) as client:
        settings = SubmissionSettings(
            ref=PartitionRef(account_fingerprint(spec["token"]), "shop", "mon"),
            options=ScrapeOptions(),
            run_id=None,
            claim_policy=ClaimPolicy(
                timedelta(seconds=spec["lease"]), timedelta(seconds=spec["lease"] / 2), pause=0.05
            ),
            batch_size=3,
        )
        # How many jobs have ended at one poll differs from run to run: record one by one.
        submitter = Submitter(Ledger(spec["ledger"], rows_per_statement=1), client, settings, print)
        if "submit" in spec["steps"]:
            begun = submitter.begin(
                validated_entries(spec["targets"], "skip"),
                above=tables.newest_generation(),
                unfinished=tables.unfinished_generation(),
            )
            generation = begun.number
            _wait_for_the_others(spec)
            submitter.submit(generation)
        else:
            generation = submitter.ledger.generations.newest(submitter.ref)
        if "bring" in spec["steps"]:
            collector = PartitionCollector(submitter, async_client, tables, retries=1)
            for error in collect_generations(
                {collector: generation}, job_timeout=timedelta(seconds=30), poll=_OFTEN
            ).values():
                raise error
        submitter.ledger.close()
    print(json.dumps({"generation": generation}))


def _record(spec: dict[str, Any]) -> None:
    """All jobs have been seen to have ended."""
    ledger = Ledger(spec["ledger"])
    recorded = ledger.submissions.mark_all_finished(ledger.submissions.find(states=[State.SUBMITTED]))
    print(json.dumps({"recorded": [each.id for each in recorded]}))


def _wait_for_the_others(spec: dict[str, Any]) -> None:
    """Until all have begun: who comes after the others have finished begins a new scrape, as it should."""
    begun = Path(spec["begun"])
    begun.mkdir(exist_ok=True)
    (begun / str(os.getpid())).touch()
    while sum(1 for _ in begun.iterdir()) < spec["at_once"]:
        time.sleep(0.002)
