"""Whether a run continues the newest generation of a partition or begins a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.errors import GenerationConflictError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.collection import wait_and_collect
from tests.support.submission import submit

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]
Client = Callable[..., AsyncScrapeDoAsyncAPIClient]

OTHER = ScrapeOptions(headers={"Authorization": "other"})


def test_an_open_generation_is_continued_with_its_own_targets(submitter: Any, emulator: Emulator, urls: Urls) -> None:
    submit(submitter(), urls(1, 2))
    submit(submitter(), urls(2, 3))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1, 2))]
    assert any("its 1 new targets wait for the next generation" in line for line in submitter.lines)


def test_options_for_other_targets_are_not_sent_with_unsent_batches(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Ledger
) -> None:
    died = submitter(batch_size=1)
    died.begin(validated_entries(urls(1, 2), "raise"))
    died.advance(ledger.submissions.find()[:1])
    before = ledger.submissions.find()
    with pytest.raises(GenerationConflictError, match=r"1 of 2 batches of generation 1 were not sent yet.*jobs cancel"):
        submit(submitter(options=OTHER), urls(3))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1))]
    assert ledger.submissions.find() == before
    # The same targets may have better options.
    assert submit(submitter(options=OTHER, batch_size=1), urls(1, 2))[0].generation == 1
    assert [job.request.get("Headers") for job in emulator.jobs()] == [None, {"Authorization": "other"}]


def test_a_run_continues_its_own_generation_without_reuse_open_jobs(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls
) -> None:
    for _ in range(2):
        assert submit(submitter(run_id="retried"), urls(1, 2), reuse_open_jobs=False)[0].generation == 1
    assert len(emulator.jobs()) == 1


def materialize(submitter: Submitter, client: Client, tables: PartitionTables, urls: list[str]) -> bool:
    """Submit and collect everything, as a run does; returns whether an earlier generation was continued."""
    generation = submitter.begin(validated_entries(urls, "raise"), above=tables.newest_generation())
    submitter.submit(generation.number)
    wait_and_collect(PartitionCollector(submitter, client, tables), generation.number)
    return generation.continued


def test_the_same_run_does_not_pay_again_for_what_it_has_collected(
    submitter: MakeSubmitter,
    async_client: Client,
    tables: PartitionTables,
    emulator: Emulator,
    urls: Urls,
) -> None:
    targets = urls(1, 2)
    assert not materialize(submitter(run_id="first"), async_client, tables, targets)
    assert materialize(submitter(run_id="first"), async_client, tables, targets)
    assert len(emulator.jobs()) == 1
    assert not materialize(submitter(run_id="second"), async_client, tables, targets)
    assert len(emulator.jobs()) == 2


def test_a_run_that_continues_anothers_generation_may_be_retried_too(
    submitter: MakeSubmitter,
    async_client: Client,
    tables: PartitionTables,
    emulator: Emulator,
    ledger: Ledger,
    ref: PartitionRef,
    urls: Urls,
) -> None:
    targets = urls(1, 2)
    submit(submitter(run_id="died"), targets)
    for _ in range(2):
        assert materialize(submitter(run_id="later"), async_client, tables, targets)
    assert len(emulator.jobs()) == 1
    assert {each.run_id for each in ledger.submissions.with_targets(ref, 1)} == {"later"}


def test_an_empty_generation_is_replaced_by_a_corrected_list(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls
) -> None:
    submit(submitter(), [])
    submit(submitter(), urls(1, 2))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1, 2))]
