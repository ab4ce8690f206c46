"""A run that died before it reported to Dagster is not paid for again; a new scrape is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import dagster as dg
import pytest

from scrapedo_dagster import ScrapeDoDataset, ScrapeOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.execution.steps import submit_step
from tests.support.dagster import with_step

Shop = Callable[..., ScrapeDoDataset]
Run = Callable[..., dg.ExecuteInProcessResult]
Events = Callable[[str], "Counter[str | None]"]


def paid(emulator: Emulator) -> set[int]:
    return {count.submitted for count in emulator.targets().values()}


@pytest.fixture
def died(shop: Shop, materialize: Run, pages: Callable[[str], list[str]], ended: Callable[[], None]) -> ScrapeDoDataset:
    """A dataset whose run died after it submitted four partitions, before it reported them to Dagster."""
    dataset = shop()

    def submit_and_die(*resources: Any) -> NoReturn:
        submit_step(*resources, dataset.dataset, lambda partition: pages(str(partition)))
        raise RuntimeError("the machine is gone")

    assert not materialize(with_step(dataset.assets[0], submit_and_die), between=("a", "d")).success
    ended()
    return dataset


def test_collected_partitions_whose_jobs_are_red_are_not_paid_for_again(
    died: ScrapeDoDataset, materialize: Run, collect: Run, tick: Callable[..., Any], emulator: Emulator, events: Events
) -> None:
    [request] = tick(died).run_requests
    assert collect(request, died).success
    assert (events("shop/jobs"), events("shop/tasks")) == (Counter(), Counter("abcd"))
    assert materialize(died.assets[0], between=("a", "d")).success
    assert (events("shop/jobs"), paid(emulator)) == (Counter("abcd"), {1})
    # Now it is reported to Dagster, and materializing it again is a new scrape.
    assert materialize(died.assets[0], between=("a", "d")).success
    assert paid(emulator) == {2}


def test_one_red_partition_can_be_reported_alone(
    died: ScrapeDoDataset, materialize: Run, emulator: Emulator, events: Events
) -> None:
    assert materialize(died.assets[1], between=("a", "d")).success
    assert materialize(died.assets[0], partition_key="b").success
    assert (events("shop/jobs"), paid(emulator)) == (Counter("b"), {1})


def test_an_instance_that_does_not_have_the_run_scrapes_again(
    shop: Shop, materialize: Run, emulator: Emulator, instance: dg.DagsterInstance
) -> None:
    """Such as an instance that is made for each call, with a ledger that outlives it."""
    dataset = shop(partitions_def=None)
    assert materialize(*dataset.assets).success
    instance.wipe_assets([dg.AssetKey(["shop", "jobs"])])
    for run in instance.get_runs():
        instance.delete_run(run.run_id)
    assert materialize(*dataset.assets).success
    assert paid(emulator) == {2}


def test_a_list_with_options_for_another_list_fails_without_a_retry(
    shop: Shop, materialize: Run, emulator: Emulator, pages: Callable[[str], list[str]], ledger: Ledger, token: str
) -> None:
    batches = [validated_entries([url], "raise") for url in pages("first")]
    ref = PartitionRef(account_fingerprint(token), "shop", None)
    assert ledger.generations.plan(ref, 1, batches, fingerprint="f", run_id="first")
    assert ledger.submissions.claim(ledger.submissions.with_targets(ref, 1)[0], run_id="first", fingerprint="f")
    options = ScrapeOptions(headers={"Authorization": "of the second"})
    dataset = shop(partitions_def=None, targets=pages("second"), options=options, retry_policy=dg.RetryPolicy(2))
    result = materialize(dataset.assets[0])
    [failure] = [event for event in result.all_events if event.is_step_failure]
    message = failure.step_failure_data.error_display_string
    assert "3 of 3 batches of generation 1 were not sent yet. The new list has other" in message
    assert "of the second" not in message
    assert emulator.jobs() == []
