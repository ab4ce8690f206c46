"""The inbox keeps each delivery once, finds it by the ids of the ledger, and deletes it when it is collected or old."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from scrapedo_dagster.engine.inbox.compression import compress
from scrapedo_dagster.engine.inbox.deliveries import Arrival, Delivery, is_storable
from scrapedo_dagster.engine.inbox.inbox import KEEP_FOR, Inbox, QuarantineLimits
from scrapedo_dagster.engine.ledger.ledger import Ledger

KEY, OTHER = "0123456789ab-1", "0123456789ab-12"


class LedgerInAWeek(Ledger):
    """A ledger whose clock a test can set forward."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerInAWeek]:
    ledger = LedgerInAWeek(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def inbox(ledger: Ledger) -> Inbox:
    return Inbox(ledger)


def delivery(key: str = KEY, job_id: str = "j1", task_id: str = "t1", body: bytes = b'{"a": 1}') -> Delivery:
    return Delivery(key, job_id, task_id, body)


def test_what_was_put_is_read_by_its_ids(inbox: Inbox) -> None:
    put = delivery()
    assert inbox.put([put, delivery(task_id="t2")]) == [True, True]
    assert inbox.read(KEY, "j1", "t1") == put.body
    assert inbox.read(KEY, "j2", "t1") is None
    assert inbox.read(OTHER, "j1", "t1") is None


def test_the_size_is_known_without_reading(inbox: Inbox) -> None:
    inbox.put([delivery(body=b"x" * 70_000)])
    assert inbox.size(KEY, "j1", "t1") == 70_000
    assert inbox.size(KEY, "j1", "t2") is None


def test_a_duplicate_changes_nothing(inbox: Inbox) -> None:
    inbox.put([delivery(body=b"the first")])
    assert inbox.put([delivery(body=b"another"), delivery(task_id="t2")]) == [False, True]
    assert inbox.read(KEY, "j1", "t1") == b"the first"


def test_of_two_with_one_name_that_come_together_the_first_is_stored(inbox: Inbox) -> None:
    assert inbox.put([delivery(body=b"the first"), delivery(body=b"another")]) == [True, False]
    assert inbox.read(KEY, "j1", "t1") == b"the first"


def test_arrivals_are_grouped_by_submission(inbox: Inbox) -> None:
    inbox.put([delivery(KEY, "j1"), delivery(KEY, "j2"), delivery(OTHER, "j3")])
    expected = {KEY: {Arrival("j1", "t1"), Arrival("j2", "t1")}, OTHER: {Arrival("j3", "t1")}}
    assert inbox.arrivals([KEY, OTHER, "0123456789ab-2"]) == expected
    assert inbox.arrivals([OTHER]) == {OTHER: {Arrival("j3", "t1")}}
    assert inbox.arrivals([KEY, *(f"{'f' * 12}-{n}" for n in range(1, 1000))]) == {KEY: expected[KEY]}


def test_an_empty_inbox_can_be_read_pruned_and_checked(inbox: Inbox) -> None:
    assert inbox.put([]) == inbox.quarantine([]) == []
    assert inbox.arrivals([KEY]) == {}
    assert inbox.prune(timedelta(0)) == 0
    inbox.remove(KEY)
    inbox.check()
    assert inbox.quarantine_usage().deliveries == 0, "the check leaves nothing"


def test_only_the_submission_that_is_collected_is_removed(inbox: Inbox) -> None:
    inbox.put([delivery(KEY), delivery(OTHER)])
    inbox.remove(KEY)
    assert set(inbox.arrivals([KEY, OTHER])) == {OTHER}
    assert inbox.put([delivery(KEY)]) == [True]


@pytest.mark.parametrize("identifier", ["a/b", "../x", "ü ☂", "%2E", "A:b\\c", "a" * 200])
def test_ids_may_be_any_text(inbox: Inbox, identifier: str) -> None:
    assert is_storable(identifier)
    inbox.put([delivery(KEY, identifier, identifier)])
    assert inbox.arrivals([KEY]) == {KEY: {Arrival(identifier, identifier)}}
    assert inbox.read(KEY, identifier, identifier) is not None


@pytest.mark.parametrize("identifier", ["", "a\0b", "a\n", "a" * 201, "☂" * 30, "\u202e"])
def test_ids_that_cannot_be_stored_are_known(identifier: str) -> None:
    assert not is_storable(identifier)


def test_old_deliveries_are_pruned_by_the_clock_of_the_ledger(inbox: Inbox, ledger: LedgerInAWeek) -> None:
    inbox.put([delivery()])
    inbox.quarantine([delivery("nobody/../knows")])
    assert inbox.prune() == 0
    assert inbox.arrivals([KEY]) != {}
    ledger.ahead = KEEP_FOR + timedelta(seconds=1)
    assert inbox.prune() == 2
    assert inbox.arrivals([KEY]) == {}
    assert inbox.quarantine_usage().deliveries == 0


@pytest.mark.parametrize("key", ["", "nobody/../knows", "x" * 5000, "\0", KEY])
def test_any_key_can_be_quarantined(inbox: Inbox, key: str) -> None:
    assert inbox.quarantine([delivery(key)]) == [True]
    assert inbox.quarantine([delivery(key)]) == [True]
    usage = inbox.quarantine_usage()
    assert (usage.deliveries, usage.bytes) == (1, len(compress(delivery().body)))


@pytest.mark.parametrize(
    "limits", [QuarantineLimits(deliveries=2), QuarantineLimits(bytes=2 * len(compress(delivery().body)) - 1)]
)
@pytest.mark.parametrize("together", [1, 4])
def test_the_quarantine_is_limited(ledger: Ledger, limits: QuarantineLimits, together: int) -> None:
    inbox = Inbox(ledger, limits)
    deliveries = [delivery("x", "j", f"t{n}") for n in range(4)]
    stored = [inbox.quarantine(deliveries[start : start + together]) for start in range(0, 4, together)]
    assert [each for some in stored for each in some] == [True, True, False, False]
    assert inbox.put([delivery(KEY)]) == [True]


def test_a_full_disk_fails_the_check(inbox: Inbox, ledger: Ledger) -> None:
    @sa.event.listens_for(ledger.engine, "begin")
    def limit(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    with pytest.raises(SQLAlchemyError, match="full"):
        inbox.check()


@pytest.mark.parametrize(
    "use",
    [
        lambda inbox: inbox.put([delivery()]),
        lambda inbox: inbox.quarantine([delivery()]),
        lambda inbox: inbox.arrivals([KEY]),
        lambda inbox: inbox.read(KEY, "j1", "t1"),
        lambda inbox: inbox.remove(KEY),
        lambda inbox: inbox.prune(),
    ],
)
def test_a_database_out_of_reach_is_a_sqlalchemy_error(tmp_path: Path, use: Callable[[Inbox], object]) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(SQLAlchemyError):
        use(Inbox(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")))
