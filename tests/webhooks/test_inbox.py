"""The inbox, of whatever kind: each delivery once, found by the ids of the ledger, gone when it is collected or old."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.inbox import files as inbox_files
from scrapedo_dagster.engine.inbox import protocol as inbox_module
from scrapedo_dagster.engine.inbox.address import ParsedKey, Webhook, submission_key
from scrapedo_dagster.engine.inbox.files import FileInbox
from scrapedo_dagster.engine.inbox.opening import open_inbox
from scrapedo_dagster.engine.inbox.packing import pack, unpack
from scrapedo_dagster.engine.inbox.protocol import Arrival, Delivery, Inbox, is_storable
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets

KEY, OTHER = "0123456789ab-1", "0123456789ab-12"
Make = Callable[..., Delivery]


def test_what_was_put_is_read_by_its_ids(any_inbox: Inbox, delivery: Make) -> None:
    put = delivery(KEY, "j1", "t1")
    assert any_inbox.put([put, delivery(KEY, "j1", "t2")]) == [True, True]
    assert any_inbox.read(KEY, "j1", "t1") == put.body
    assert any_inbox.read(KEY, "j2", "t1") is None
    assert any_inbox.read(OTHER, "j1", "t1") is None


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_791, 65_792, 3_000_000])
def test_the_size_is_known_without_reading(any_inbox: Inbox, delivery: Make, size: int) -> None:
    any_inbox.put([delivery(KEY, body=os.urandom(size))])
    assert any_inbox.size(KEY, "j1", "t1") == size
    assert any_inbox.size(KEY, "j1", "t2") is None


def test_a_duplicate_changes_nothing(any_inbox: Inbox, delivery: Make) -> None:
    any_inbox.put([delivery(KEY, body=b"the first")])
    assert any_inbox.put([delivery(KEY, body=b"another"), delivery(KEY, "j1", "t2", b"x")]) == [False, True]
    assert any_inbox.read(KEY, "j1", "t1") == b"the first"


def test_news_tells_what_arrived_for_whom(any_inbox: Inbox, delivery: Make) -> None:
    any_inbox.put([delivery(KEY, "j1", "t1"), delivery(KEY, "j2", "t1"), delivery(OTHER, "j3", "t1")])
    expected = {KEY: {Arrival("j1", "t1"), Arrival("j2", "t1")}, OTHER: {Arrival("j3", "t1")}}
    assert any_inbox.news([KEY, OTHER, "0123456789ab-2"]) == expected
    assert any_inbox.news([OTHER]) == {OTHER: {Arrival("j3", "t1")}}
    assert any_inbox.news([KEY, *(f"{'f' * 12}-{n}" for n in range(1, 50))]) == {KEY: expected[KEY]}


def test_an_empty_inbox_has_no_news(any_inbox: Inbox) -> None:
    assert any_inbox.news([KEY]) == {}
    assert any_inbox.prune(timedelta(0)) == 0
    any_inbox.remove(KEY)
    any_inbox.check()


def test_a_collected_submission_is_forgotten_and_no_other(any_inbox: Inbox, delivery: Make) -> None:
    any_inbox.put([delivery(KEY), delivery(OTHER)])
    any_inbox.remove(KEY)
    assert set(any_inbox.news([KEY, OTHER])) == {OTHER}
    assert any_inbox.put([delivery(KEY)]) == [True]


@pytest.mark.parametrize("identifier", ["a/b", "../x", ".hidden", "ü ☂", "%2E", "x.json.zst", "A:b\\c", "a" * 200])
def test_ids_may_be_any_text(any_inbox: Inbox, delivery: Make, identifier: str) -> None:
    assert is_storable(identifier)
    any_inbox.put([delivery(KEY, identifier, identifier)])
    assert any_inbox.news([KEY]) == {KEY: {Arrival(identifier, identifier)}}
    assert any_inbox.read(KEY, identifier, identifier) is not None


@pytest.mark.parametrize("identifier", ["", "a\0b", "a\n", "a" * 201, "☂" * 30, "\u202e"])
def test_ids_that_fit_nowhere_are_known(identifier: str) -> None:
    assert not is_storable(identifier)


def test_what_is_old_is_forgotten_wherever_it_is(any_inbox: Inbox, delivery: Make) -> None:
    if "memory" in repr(any_inbox):
        pytest.skip("pyarrow learns no times from fsspec's memory")
    any_inbox.put([delivery(KEY)])
    any_inbox.quarantine(delivery("nobody/../knows"))
    assert any_inbox.prune(timedelta(hours=1)) == 0
    assert any_inbox.news([KEY]) != {}
    assert any_inbox.prune(timedelta(seconds=-5)) == 2
    assert any_inbox.news([KEY]) == {}
    assert any_inbox.quarantine_usage().deliveries == 0


@pytest.mark.parametrize("key", ["", "nobody/../knows", "x" * 5000, "\0", KEY])
def test_unknown_submissions_are_kept_apart(any_inbox: Inbox, delivery: Make, key: str) -> None:
    assert any_inbox.quarantine(delivery(key))
    assert any_inbox.quarantine(delivery(key))
    apart = any_inbox.quarantine_usage()
    assert apart.deliveries == 1
    assert 0 < apart.bytes < 1000


@pytest.mark.parametrize("limit", ["MAX_QUARANTINED", "MAX_QUARANTINED_BYTES"])
def test_what_is_kept_apart_is_bounded(
    any_inbox: Inbox, delivery: Make, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, limit, 2 if limit == "MAX_QUARANTINED" else 2 * len(pack(delivery().body)) - 1)
    assert [any_inbox.quarantine(delivery("x", "j", f"t{n}")) for n in range(4)] == [True, True, False, False]
    assert any_inbox.put([delivery(KEY)]) == [True]


def test_damaged_files_are_as_if_they_were_not_there(tmp_path: Path, delivery: Make) -> None:
    inbox = open_inbox(str(tmp_path), None)
    whole = pack(b"x" * 10_000)
    for damaged in (b"", whole[:-3], b"\x00" * 20, whole[:10] + b"!!!" + whole[13:]):
        path = tmp_path / KEY / "j1" / "t1.json.zst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged)
        assert inbox.read(KEY, "j1", "t1") in (None, b""), damaged
        assert inbox.size(KEY, "j1", "t1") in (None, 10_000), damaged
    assert unpack(whole) == b"x" * 10_000


def test_files_of_others_are_left_alone(tmp_path: Path, delivery: Make) -> None:
    others = [tmp_path / "notes.txt", tmp_path / "data" / "j1" / "t1.json.zst", tmp_path / KEY / "j1" / "notes.txt"]
    inbox = open_inbox(str(tmp_path), None)
    inbox.put([delivery(KEY)])
    left = tmp_path / KEY / "j1" / ".t9.json.zst.0.tmp"
    for path in (*others, left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    assert inbox.prune(timedelta(seconds=-5)) == 1
    assert all(path.exists() for path in others)
    assert not left.exists(), "what a killed receiver left"
    assert inbox.news([KEY]) == {}


def test_empty_directories_go_with_their_files(tmp_path: Path, delivery: Make) -> None:
    inbox = open_inbox(str(tmp_path), None)
    inbox.put([delivery(KEY), delivery(OTHER)])
    inbox.prune(timedelta(seconds=-5))
    assert list(tmp_path.iterdir()) == []


def test_news_of_a_thousand_submissions_is_cheap(any_inbox: Inbox, delivery: Make) -> None:
    any_inbox.put([delivery(f"0123456789ab-{n}") for n in range(1, 101)])
    began = time.monotonic()
    assert len(any_inbox.news([f"0123456789ab-{n}" for n in range(1, 1001)])) == 100
    assert time.monotonic() - began < 2


def test_the_age_in_a_table_goes_by_the_ledgers_clock(
    ledger: Ledger, delivery: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = open_inbox(None, ledger)
    inbox.put([delivery(KEY)])
    now: datetime = ledger.now()
    monkeypatch.setattr(ledger, "now", lambda: now + timedelta(days=8))
    assert inbox.prune(inbox_module.KEPT) == 1


def test_an_inbox_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the URI of a directory, or a ledger"):
        open_inbox(None, None)
    with pytest.raises(ValueError, match="s4://bucket") as e:
        open_inbox("s4://key:hidden@bucket", None)
    assert "hidden" not in str(e.value)
    with pytest.raises(ValueError, match="nonsense"):
        open_inbox("s3://bucket/inbox?nonsense=1", None)


def test_a_bucket_out_of_reach_is_opened_and_says_so_when_it_is_used(delivery: Make) -> None:
    inbox = open_inbox("s3://k:s@scrapedo-nobody-has-this-bucket/inbox", None)
    for use in (lambda: inbox.news([KEY]), inbox.check, lambda: inbox.put([delivery()])):
        with pytest.raises(OSError, match="bucket"):
            use()


def test_whoever_reads_waits_no_longer_than_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_files, "_SECONDS", 0.2)
    answer = threading.Event()
    monkeypatch.setattr(FileInbox, "news", lambda *_: answer.wait(60))
    inbox = open_inbox(str(tmp_path), None, for_reading=True)
    began = time.monotonic()
    for use in (lambda: inbox.news([KEY]), lambda: inbox.read(KEY, "j1", "t1"), lambda: inbox.remove(KEY)):
        with pytest.raises(TimeoutError):
            use()
    assert time.monotonic() - began < 5
    answer.set()


def test_keys_are_stable_and_can_be_taken_apart(submitted: Callable[..., SubmissionWithTargets]) -> None:
    submission = submitted("j1")
    parsed = ParsedKey.of(submission_key(submission))
    assert parsed is not None
    assert (parsed.submission_id, submission.ref.account.startswith(parsed.account)) == (submission.id, True)
    for wrong in ("", "x", f"{parsed.account}-0", f"{parsed.account}-9999999999", f"{parsed.account.upper()}-1"):
        assert ParsedKey.of(wrong) is None, wrong


@pytest.mark.parametrize(
    ("url", "secret", "told"),
    [
        ("https://hooks.example", "canary-7f3a9c", "webhook_secret must have 24 or more"),
        ("https://hooks.example", "canary-7f3a9c with spaces in between", "letters, digits"),
        ("ftp://hooks.example", "x" * 32, "webhook_url"),
        ("https://hooks.example/?canary=7f3a9c", "x" * 32, "webhook_url is 'https://hooks.example/' .* cannot have a"),
        ("https://hooks.example/?canary=7f3a9c\n", "x" * 32, "webhook_url: 'https://hooks.example/' contains"),
        ("https://me:canary@hooks.example/#", "x" * 32, "webhook_url is 'https://hooks.example/'"),
    ],
)
def test_webhooks_that_cannot_work_are_refused_without_the_secret(url: str, secret: str, told: str) -> None:
    with pytest.raises(WebhookError, match=told) as e:
        Webhook(url, secret)
    assert secret not in str(e.value)
    assert "canary" not in str(e.value)


def test_a_webhook_does_not_show_its_secret() -> None:
    assert "canary" not in repr(Webhook("https://hooks.example", "canary-7f3a9c-current-secret"))


def test_pyarrow_is_as_expected() -> None:
    """`unpack` trusts that damage is an OSError or an ArrowException."""
    with pytest.raises((OSError, pa.ArrowException)):
        pa.input_stream(pa.py_buffer(b"no zstd"), compression="zstd").read()


def test_paths_with_any_character_work(tmp_path: Path, delivery: Make) -> None:
    inbox: Any = open_inbox(str(tmp_path / "a b % ü"), None)
    inbox.put([delivery(KEY)])
    assert len(inbox.news([KEY])) == 1
