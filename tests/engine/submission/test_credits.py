"""The balance of an account is requested seldom, and always before it is found too low."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.errors import NotEnoughCreditsError
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.submission.credits import CreditBalance
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.clock import ManualClock

TARGETS = validated_entries(["https://a.example/", "https://b.example/"], "raise")


@pytest.fixture
def emulator(token: str) -> Iterator[Emulator]:
    with Emulator(token=token, credits=5) as emulator:
        yield emulator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def begin(submitter: Callable[..., Any], ref: PartitionRef, clock: ManualClock) -> Callable[[str], int]:
    """Plan a partition of two targets, as all partitions of a step: with one balance."""
    balance = CreditBalance(clock=clock)
    return lambda key: submitter(ref=replace(ref, partition=key), balance=balance).begin(TARGETS).number


def asked(emulator: Emulator) -> int:
    return emulator.requests().get("me", 0)


def test_one_answer_serves_many_partitions_until_it_is_used_up(begin: Callable[[str], int], emulator: Emulator) -> None:
    assert [begin("a"), begin("b")] == [1, 1]
    assert asked(emulator) == 1
    assert begin("c") == 1, "reserved credits that are not billed yet are no reason to refuse"
    assert asked(emulator) == 2


def test_a_balance_that_is_too_low_is_requested_again_before_it_is_refused(
    emulator: Emulator, client: ScrapeDoAsyncAPIClient, submitter: Callable[..., Any]
) -> None:
    balance = CreditBalance(available=1, requested_at=time.monotonic())
    assert balance.reserve(2, client) == 5
    assert (asked(emulator), balance.available) == (1, 3)
    with pytest.raises(NotEnoughCreditsError, match="the account has 5"):
        submitter(balance=balance).begin(
            validated_entries([f"https://a.example/{number}" for number in range(6)], "raise")
        )
    assert asked(emulator) == 2


def test_an_answer_is_used_for_a_short_time(
    begin: Callable[[str], int], emulator: Emulator, clock: ManualClock
) -> None:
    begin("a")
    clock.sleep(CreditBalance.max_age + 1)
    begin("b")
    assert asked(emulator) == 2


def test_without_targets_there_is_no_request(client: ScrapeDoAsyncAPIClient, emulator: Emulator) -> None:
    assert CreditBalance().reserve(0, client) is None
    assert asked(emulator) == 0
