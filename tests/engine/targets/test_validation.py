"""Validating targets and splitting them into batches: none is lost, duplicated or separated from its equals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.engine.errors import InvalidTargetsError
from scrapedo_dagster.engine.targets.batches import split_into_batches
from scrapedo_dagster.engine.targets.target import Entry, Target
from scrapedo_dagster.engine.targets.validation import validated_entries

a_url = st.integers(0, 12).map(lambda number: f"https://example.com/{number}")
an_entry = st.tuples(a_url, st.one_of(st.none(), st.just("no URL")))
lists = st.lists(an_entry, max_size=40).map(
    lambda pairs: tuple(
        Entry(position, url if rejected is None else f"bad {url}", rejected=rejected)
        for position, (url, rejected) in enumerate(pairs)
    )
)


def test_targets_get_their_positions_and_keys() -> None:
    entries = validated_entries(["https://a.example/", Target("http://b.example/x", key="sku-1")], "raise")
    assert entries == (Entry(0, "https://a.example/"), Entry(1, "http://b.example/x", "sku-1"))


def test_any_iterable_of_targets_will_do() -> None:
    assert validated_entries((url for url in ["https://a.example/"]), "raise") == (Entry(0, "https://a.example/"),)
    assert validated_entries([], "raise") == ()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("ftp://files.example", "not an http or https URL"),
        ("https://", "has no host"),
        ("/relative", "not an http or https URL"),
        ("https://a b.example", "white space"),
        ("https://a.example:port/", "not a valid URL"),
        ("", "not an http or https URL"),
        (None, "None is NoneType, not a string"),
        (7, "7 is int, not a string"),
        (Target(b"https://a.example", key="k"), "is bytes, not a string"),  # type: ignore[arg-type]
    ],
)
def test_a_target_that_cannot_be_scraped_is_named_with_its_position(target: Any, reason: str) -> None:
    with pytest.raises(InvalidTargetsError, match="1 of 2 targets") as raised:
        validated_entries(["https://a.example/", target], "raise")
    assert list(raised.value.reasons) == [1]
    assert reason in raised.value.reasons[1]
    assert reason in str(raised.value)
    assert "nothing charged" in str(raised.value)


def test_invalid_targets_can_be_kept_with_their_reason() -> None:
    good, bad = validated_entries(["https://a.example/", Target("ftp://files.example", key="k")], "skip")
    assert good.rejected is None
    assert (bad.position, bad.url, bad.key) == (1, "ftp://files.example", "k")
    assert bad.rejected is not None
    assert "not an http or https URL" in bad.rejected


def test_a_message_about_many_invalid_targets_stays_short() -> None:
    with pytest.raises(InvalidTargetsError, match="and 990 more") as raised:
        validated_entries(["nonsense"] * 1000, "raise")
    assert len(raised.value.reasons) == 1000
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("targets", ["https://a.example/", b"https://a.example/"])
def test_one_string_is_no_list(targets: Any) -> None:
    with pytest.raises(TypeError, match="Return \\["):
        validated_entries(targets, "raise")


@pytest.mark.parametrize("targets", [None, 7])
def test_what_cannot_be_iterated_is_named(targets: Any) -> None:
    with pytest.raises(TypeError, match=f"is {type(targets).__name__}: return a list"):
        validated_entries(targets, "skip")


def test_an_error_of_the_users_generator_is_the_users() -> None:
    def targets() -> Any:
        yield "https://a.example/"
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        validated_entries(targets(), "raise")


@given(lists, st.integers(1, 5))
def test_every_entry_is_in_exactly_one_batch(entries: tuple[Entry, ...], size: int) -> None:
    batches = split_into_batches(entries, size)
    assert sorted(entry.position for batch in batches for entry in batch) == [entry.position for entry in entries]
    assert {entry for batch in batches for entry in batch} == set(entries)


@given(lists, st.integers(1, 5))
def test_a_url_is_in_one_batch_only(entries: tuple[Entry, ...], size: int) -> None:
    sets = [{entry.url for entry in batch if entry.rejected is None} for batch in split_into_batches(entries, size)]
    assert sum(map(len, sets)) == len(set().union(*sets))


@given(lists, st.integers(1, 5))
def test_batches_are_full_but_for_the_last(entries: tuple[Entry, ...], size: int) -> None:
    sizes = [
        len({entry.url for entry in batch if entry.rejected is None}) for batch in split_into_batches(entries, size)
    ]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert sizes[-1] <= size
    assert sizes[-1] > 0 or len(sizes) == 1


@given(lists, st.integers(1, 5))
def test_entries_and_first_urls_keep_the_order_of_the_list(entries: tuple[Entry, ...], size: int) -> None:
    batches = split_into_batches(entries, size)
    assert all([e.position for e in batch] == sorted(e.position for e in batch) for batch in batches)
    firsts = [dict.fromkeys(e.url for e in batch if e.rejected is None) for batch in batches]
    in_order = list(dict.fromkeys(entry.url for entry in entries if entry.rejected is None))
    assert [url for first in firsts for url in first] == in_order


def test_without_targets_there_is_one_empty_batch() -> None:
    assert split_into_batches(()) == [()]


def test_rejected_entries_alone_are_a_batch_too() -> None:
    entries = validated_entries(["nonsense", "more"], "skip")
    assert split_into_batches(entries, 1) == [entries]


def test_a_thousand_targets_are_one_job_and_one_more_is_two() -> None:
    entries = validated_entries([f"https://example.com/{number}" for number in range(1001)], "raise")
    assert [len(batch) for batch in split_into_batches(entries[:1000])] == [1000]
    assert [len(batch) for batch in split_into_batches(entries)] == [1000, 1]
