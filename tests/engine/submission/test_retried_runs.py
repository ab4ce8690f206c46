"""A run that is retried goes on with what it has begun, also where all of that is collected."""

from collections.abc import Callable

from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.collection import wait_and_collect

Client = Callable[..., AsyncScrapeDoAsyncAPIClient]


def materialize(submitter: Submitter, client: Client, tables: PartitionTables, urls: list[str]) -> bool:
    """Submit and collect everything, as a run does; whether it went on with an earlier generation."""
    generation = submitter.begin(validated_entries(urls, "raise"), above=tables.newest_generation())
    submitter.submit(generation.number)
    wait_and_collect(PartitionCollector(submitter, client, tables), generation.number)
    return generation.continued


def test_the_same_run_does_not_pay_again_for_what_it_has_collected(
    submitter: Callable[..., Submitter],
    async_client: Client,
    tables: PartitionTables,
    emulator: Emulator,
    urls: Callable[..., list[str]],
) -> None:
    targets = urls(1, 2)
    assert not materialize(submitter(run_id="first"), async_client, tables, targets)
    assert materialize(submitter(run_id="first"), async_client, tables, targets)
    assert len(emulator.jobs()) == 1
    assert not materialize(submitter(run_id="second"), async_client, tables, targets)
    assert len(emulator.jobs()) == 2


def test_a_run_that_goes_on_with_anothers_generation_may_be_retried_too(
    submitter: Callable[..., Submitter],
    async_client: Client,
    tables: PartitionTables,
    emulator: Emulator,
    ledger: Ledger,
    ref: PartitionRef,
    urls: Callable[..., list[str]],
) -> None:
    targets = urls(1, 2)
    died = submitter(run_id="died")
    died.submit(died.begin(validated_entries(targets, "raise")).number)
    for _ in range(2):
        assert materialize(submitter(run_id="went on"), async_client, tables, targets)
    assert len(emulator.jobs()) == 1
    assert {each.run_id for each in ledger.submissions.with_targets(ref, 1)} == {"went on"}


def test_an_empty_list_does_not_stand_in_the_way_of_a_mended_one(
    submitter: Callable[..., Submitter], emulator: Emulator, urls: Callable[..., list[str]]
) -> None:
    empty = submitter()
    empty.submit(empty.begin(validated_entries([], "raise")).number)
    mended = submitter()
    mended.submit(mended.begin(validated_entries(urls(1, 2), "raise")).number)
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1, 2))]
