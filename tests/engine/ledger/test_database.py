"""The database of the ledger: opened on first use, safe for threads and processes, durable."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.threads import together

Plan = Callable[..., list[SubmissionWithTargets]]


def test_the_token_is_not_stored(ledger: Ledger, token: str, plan: Plan, tmp_path: Path) -> None:
    [submission] = plan(["https://a.example/"])
    assert submission.ref.account == account_fingerprint(token)
    ledger.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if submission.ref.account.encode() in path.read_bytes()]
    assert not [path for path in files if token.encode() in path.read_bytes()]


def test_the_password_of_a_database_is_not_shown() -> None:
    assert "hidden" not in repr(Ledger("postgresql+psycopg://user:hidden@host/database"))
    assert "host" in repr(Ledger("postgresql+psycopg://user:hidden@host/database"))


def test_nothing_is_touched_before_the_first_use(tmp_path: Path) -> None:
    repr(Ledger(f"sqlite:///{tmp_path / 'a' / 'ledger.db'}"))
    assert not (tmp_path / "a").exists()


def test_a_ledger_can_be_used_again_after_it_was_closed(ledger: Ledger, plan: Plan) -> None:
    planned = plan(["https://a.example/"])
    ledger.close()
    assert ledger.submissions.find() == planned


def test_a_claim_is_on_disk_before_anything_is_sent(ledger: Ledger, ledger_url: str, plan: Plan) -> None:
    [submission] = plan(["https://a.example/"])
    ledger.submissions.claim(submission, run_id=None, fingerprint="f")
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "2 is FULL"
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with sqlite3.connect(sa.make_url(ledger_url).database or "") as other:
        assert other.execute("select state from scrapedo_submissions").fetchall() == [("submitting",)]


def test_threads_that_share_a_ledger_lose_nothing(ledger: Ledger, account: str) -> None:
    def work(number: int) -> None:
        for step in range(5):
            ref = PartitionRef(account, f"dataset {number}", str(step))
            assert ledger.generations.plan(
                ref, 1, [validated_entries(["https://a.example/"], "raise")], fingerprint="f", run_id=None
            )
            [submission] = ledger.submissions.with_targets(ref, 1)
            claimed = ledger.submissions.claim(submission, run_id=None, fingerprint="f")
            assert claimed
            ledger.submissions.mark_submitted(claimed, f"job {number} {step}", [])

    together(6, work)
    assert len(ledger.submissions.known_job_ids(account)) == 30


CLAIMER = """
import sys
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.targets.validation import validated_entries

ledger = Ledger(sys.argv[1])
ref = PartitionRef("account", "shop", None)
print("ready", flush=True)
sys.stdin.readline()
batches = [validated_entries([f"https://a.example/{n}"], "raise") for n in range(20)]
ledger.generations.plan(ref, 1, batches, fingerprint="f", run_id=None)
unclaimed = [each for each in ledger.submissions.with_targets(ref, 1) if each.state.value == "planned"]
won = [each.batch for each in unclaimed if ledger.submissions.claim(each, run_id=None, fingerprint="f")]
print(*won)
"""


def test_processes_that_create_a_ledger_at_the_same_time_win_each_claim_once(ledger_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, ledger_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    won = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(int(batch) for each in won for batch in each.split()) == list(range(20))
