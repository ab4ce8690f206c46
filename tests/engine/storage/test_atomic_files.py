"""Arbitrary text becomes directory names that are safe, and never the same for two texts."""

import string
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.engine.storage.atomic_files import safe_name

awkward = st.text(alphabet=st.sampled_from("aA./=%|!~ \\\0\né😀" + "2EF"), max_size=12)
long = st.builds(lambda text, n: text * n, st.text(min_size=1, max_size=4), st.integers(50, 300))
keys = st.one_of(st.text(max_size=200), awkward, long)
prefixes = st.sampled_from(["", "partition="])


@given(keys, keys, prefixes)
def test_two_texts_never_share_a_name(one: str, other: str, prefix: str):
    assert (safe_name(one, prefix=prefix) == safe_name(other, prefix=prefix)) == (one == other)


@given(long.map(lambda text: text[:400]), st.text(max_size=3))
def test_long_texts_that_begin_alike_stay_apart(text: str, more: str):
    assert (safe_name(text) == safe_name(text + more)) == (more == "")


@given(long, prefixes)
def test_name_of_a_long_text_belongs_to_no_other_text(text: str, prefix: str):
    name = safe_name(text, prefix=prefix)
    decoded = unquote(name.removeprefix(prefix))
    assert decoded == text or safe_name(decoded, prefix=prefix) != name


@given(keys, prefixes)
def test_name_is_one_component_that_every_disk_takes(text: str, prefix: str):
    name = safe_name(text, prefix=prefix)
    assert len(name.encode()) <= 255
    assert set(name.removeprefix(prefix)) <= set(string.ascii_letters + string.digits + "%-_.~!")
    assert not name.startswith(".")
    if name:
        assert (Path("/base") / name).resolve().parent == Path("/base")


@given(st.text(max_size=20), prefixes)
def test_readers_of_hive_directories_get_the_text_back(text: str, prefix: str):
    assert unquote(safe_name(text, prefix=prefix).removeprefix(prefix)) == text


@given(long)
def test_cut_names_can_still_be_decoded(text: str):
    assert unquote(safe_name(text), errors="strict")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2026-01-01", "2026-01-01"),
        ("US", "US"),
        ("us", "us"),
        ("a/b=c", "a%2Fb%3Dc"),
        ("..", "%2E."),
        ("2026-01-01|de", "2026-01-01%7Cde"),
    ],
)
def test_usual_keys_stay_readable(text: str, name: str):
    assert safe_name(text) == name


def test_two_hundred_emoji_fit():
    name = safe_name("😀" * 200, prefix="partition=")
    assert 240 < len(name) <= 255
