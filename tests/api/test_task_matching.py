"""Matching tasks to targets, for any lists of URLs."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scrapedo_dagster.api.task_matching import match_tasks, normalize_url

HOSTS = st.sampled_from(["example.com", "EXAMPLE.com", "example.com:443", "example.com:80", "a.example.com", "[::1]"])
PATHS = st.text("abc/%?=&ü +~", max_size=8).map(lambda path: f"/{path}")
URLS = st.builds(
    lambda scheme, host, path, fragment: f"{scheme}://{host}{path}{fragment}",
    st.sampled_from(["http", "https", "HTTPS"]),
    HOSTS,
    PATHS | st.just(""),
    st.sampled_from(["", "#top"]),
)
FEW_URLS = st.lists(URLS | st.text(max_size=4), max_size=8)


@given(URLS | st.text(max_size=30))
@example("https://[")
@example("//")
@example("http://a:b")
@example("https://xn--a.example/")
@example("x" * 70_000)
def test_normalizing_any_text_twice_is_normalizing_it_once(text: str) -> None:
    assert normalize_url(normalize_url(text)) == normalize_url(text)


@pytest.mark.parametrize(
    "variant",
    [
        "https://example.com",
        "https://EXAMPLE.com/",
        "HTTPS://example.com:443/",
        "https://example.com/#part",
    ],
)
def test_equivalent_urls_are_equal_in_normal_form(variant: str) -> None:
    assert normalize_url(variant) == "https://example.com/"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com/a b", "https://example.com/a%20b"),
        ("https://example.com/ü", "https://example.com/%C3%BC"),
        ("https://example.com?a=1", "https://example.com/?a=1"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_encoded_and_plain_letters_are_equal(one: str, other: str) -> None:
    assert normalize_url(one) == normalize_url(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://example.com/", "https://example.com/"),
        ("https://example.com/a", "https://example.com/A"),
        ("https://example.com/a", "https://example.com/a/"),
        ("https://example.com/?a=1&b=2", "https://example.com/?b=2&a=1"),
        ("https://example.com:8443/", "https://example.com/"),
    ],
)
def test_different_pages_stay_different(one: str, other: str) -> None:
    assert normalize_url(one) != normalize_url(other)


@given(FEW_URLS, FEW_URLS)
def test_every_task_is_used_once_at_most(targets: list[str], tasks: list[str]) -> None:
    matched = match_tasks(targets, tasks)
    used = [index for index in matched if index is not None]
    assert len(matched) == len(targets)
    assert len(used) == len(set(used))
    assert all(0 <= index < len(tasks) for index in used)


@given(st.data())
def test_shuffled_tasks_are_all_matched_to_equal_urls(data: st.DataObject) -> None:
    targets = data.draw(FEW_URLS)
    tasks = data.draw(st.permutations(targets))
    matched = match_tasks(targets, tasks)
    assert sorted(index for index in matched if index is not None) == list(range(len(tasks)))
    assert [tasks[index] for index in matched if index is not None] == targets


@given(st.data())
def test_shuffled_tasks_with_normalized_urls_are_all_matched(data: st.DataObject) -> None:
    targets = data.draw(st.lists(URLS, max_size=8))
    tasks = data.draw(st.permutations([normalize_url(url) for url in targets]))
    matched = match_tasks(targets, tasks)
    assert sorted(index for index in matched if index is not None) == list(range(len(tasks)))
    assert [normalize_url(tasks[index]) for index in matched if index is not None] == list(map(normalize_url, targets))


@given(st.data())
def test_missing_tasks_leave_targets_unmatched(data: st.DataObject) -> None:
    targets = data.draw(st.lists(URLS, min_size=1, max_size=8))
    kept = data.draw(st.lists(st.sampled_from(range(len(targets))), unique=True))
    tasks = [targets[index] for index in kept]
    for target, index in zip(targets, match_tasks(targets, tasks), strict=True):
        assert index is None or normalize_url(tasks[index]) == normalize_url(target)


def test_equal_url_is_preferred_to_one_equal_in_normal_form() -> None:
    assert match_tasks(["https://a.example", "https://a.example/"], ["https://a.example/", "https://a.example"]) == [
        1,
        0,
    ]


def test_urls_in_unknown_form_are_matched_in_order_if_counts_are_equal() -> None:
    assert match_tasks(["https://a.example/", "https://b.example/"], ["", ""]) == [0, 1]
    assert match_tasks(["https://a.example/", "https://b.example/"], ["x", "https://a.example/"]) == [1, 0]


def test_urls_in_unknown_form_are_unmatched_if_counts_differ() -> None:
    assert match_tasks(["https://a.example/", "https://b.example/"], ["", "", ""]) == [None, None]
    assert match_tasks(["https://a.example/", "https://b.example/"], ["x"]) == [None, None]


def test_thousand_equal_targets_match_a_thousand_tasks() -> None:
    targets = ["https://a.example/"] * 1000
    assert match_tasks(targets, targets) == list(range(1000))


@given(st.text(string.printable, max_size=50))
def test_no_text_breaks_the_matching(text: str) -> None:
    assert match_tasks([text], [text]) == [0]
