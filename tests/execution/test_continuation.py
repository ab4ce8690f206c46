"""Whatever died before Dagster knew is not paid for again; what is wanted again is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from scrapedo_dagster import ScrapeDoDataset, ScrapeOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.targets.target import validated_entries
from scrapedo_dagster.execution.partition_events import PartitionEvents

Shop = Callable[..., ScrapeDoDataset]
Run = Callable[..., dg.ExecuteInProcessResult]
Events = Callable[[str], "Counter[str | None]"]


def paid(emulator: Emulator) -> set[int]:
    return {count.submitted for count in emulator.targets().values()}


@pytest.fixture
def died(shop: Shop, materialize: Run, monkeypatch: pytest.MonkeyPatch, ended: Callable[[], None]) -> ScrapeDoDataset:
    """A dataset whose submitting run has died when all was submitted, before Dagster was told."""

    def die(_truth: PartitionEvents) -> Any:
        raise RuntimeError("the machine is gone")

    dataset = shop()
    with monkeypatch.context() as patch:
        patch.setattr(PartitionEvents, "results", die)
        assert not materialize(dataset.assets[0], between=("a", "d")).success
    ended()
    return dataset


def test_jobs_that_are_red_though_they_were_collected_are_not_paid_for_again(
    died: ScrapeDoDataset, materialize: Run, collect: Run, tick: Callable[..., Any], emulator: Emulator, events: Events
) -> None:
    [request] = tick(died).run_requests
    assert collect(request, died).success
    assert (events("shop/jobs"), events("shop/tasks")) == (Counter(), Counter("abcd"))
    assert materialize(died.assets[0], between=("a", "d")).success
    assert (events("shop/jobs"), paid(emulator)) == (Counter("abcd"), {1})
    # Now Dagster knows, and whoever materialises them wants a new scrape.
    assert materialize(died.assets[0], between=("a", "d")).success
    assert paid(emulator) == {2}


def test_one_partition_that_is_red_is_told_alone(
    died: ScrapeDoDataset, materialize: Run, emulator: Emulator, events: Events
) -> None:
    assert materialize(died.assets[1], between=("a", "d")).success
    assert materialize(died.assets[0], partition_key="b").success
    assert (events("shop/jobs"), paid(emulator)) == (Counter("b"), {1})


def test_a_dagster_that_knows_nothing_of_the_run_scrapes_anew(
    shop: Shop, materialize: Run, emulator: Emulator, instance: dg.DagsterInstance
) -> None:
    """As one that is made for each call, with a ledger that is not."""
    dataset = shop(partitions_def=None)
    assert materialize(*dataset.assets).success
    instance.wipe_assets([dg.AssetKey(["shop", "jobs"])])
    for run in instance.get_runs():
        instance.delete_run(run.run_id)
    assert materialize(*dataset.assets).success
    assert paid(emulator) == {2}


def test_a_list_that_would_be_sent_with_options_for_another_is_refused_for_good(
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
    told = failure.step_failure_data.error_display_string
    assert "other targets are listed now, with other options, which must not be sent to the old targets" in told
    assert "of the second" not in told
    assert emulator.jobs() == []
