"""A thousand jobs have ended: two workers record that at once, or one is killed in the middle."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.validation import validated_entries

AMOUNT = 1000


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    return request.getfixturevalue("postgres") if request.param == "postgres" else None


def submit(work, amount=AMOUNT):
    """A partition of many jobs, by the ledger."""
    ledger = Ledger(work.ledger_url)
    ref = PartitionRef(account_fingerprint(work.emulator.token), "shop", "mon")
    batches = [validated_entries([f"https://shop.example/{number}"], "raise") for number in range(amount)]
    assert ledger.generations.plan(ref, 1, batches, fingerprint="f", run_id=None)
    job_id = sa.literal("job-") + sa.cast(table.c.batch, sa.String)
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(table).values(state=State.SUBMITTED.value, job_id=job_id))
    ledger.close()


def recorded(work):
    """What each worker that lived says to have recorded."""
    return [json.loads(line)["recorded"] for line in work.log.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_two_workers_at_once_record_each_job_once(works, database):
    for _ in range(5):
        with works.new(database) as work:
            submit(work)
            work.run(steps="record", at_once=2)
            assert work.ends == [0, 0], work.log
            one, two = recorded(work)
            assert sorted(one + two) == sorted({*one, *two})
            assert len(one + two) == AMOUNT
            assert work.states == {"finished": AMOUNT}


@pytest.mark.slow
def test_killed_anywhere_the_next_worker_records_the_rest(works, database):
    with works.new(database) as undisturbed:
        submit(undisturbed)
        undisturbed.run(steps="record")
        points = undisturbed.trail
    assert sum("before UPDATE" in point for point in points) == 2, "in the middle there is no point to die at"
    after_death = set()
    for point in points:
        with works.new(database) as work:
            submit(work)
            work.run(steps="record", deadly=point, by="SIGKILL")
            left = work.states
            after_death.add(left["finished"])
            assert left["finished"] + left["submitted"] == AMOUNT, point
            work.run(steps="record")
            assert work.ends == [-9, 0], (point, work.log)
            assert len(recorded(work)[0]) == left["submitted"], point
            assert work.states == {"finished": AMOUNT}, point
    assert after_death == {0, 500, AMOUNT}


CHANGES = {
    "record its jobs": lambda ledger, submissions: ledger.submissions.mark_all_finished(submissions),
    "go on with it": lambda ledger, submissions: ledger.generations.take_over(submissions[0].ref, 1, run_id="another"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_many_rows_are_locked_in_one_order_so_that_workers_wait_and_do_not_deadlock(works, postgres, change):
    with works.new(postgres) as work:
        submit(work, amount=10)
        # What Postgres does with small tables, or large updates.
        ledger = Ledger(f"{work.ledger_url}%20-cenable_indexscan%3Doff%20-cenable_bitmapscan%3Doff")
        submissions = ledger.submissions.find()
        rows = [sa.select(table.c.id).where(table.c.id == submissions[batch].id) for batch in (0, 9)]
        with ledger.engine.begin() as connection:  # a row that was changed is found behind the others
            connection.execute(sa.update(table).where(table.c.batch == 0).values(run_id="first"))
        with ThreadPoolExecutor(1) as pool:
            with ledger.engine.begin() as connection:
                connection.execute(rows[0].with_for_update())
                changing = pool.submit(CHANGES[change], ledger, submissions)
                wait_until_one_waits(connection)
                connection.execute(rows[1].with_for_update(nowait=True))
            changing.result(30)
        ledger.close()


def wait_until_one_waits(connection):
    deadline = time.monotonic() + 20
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while not connection.execute(waiting).scalar():
        assert time.monotonic() < deadline
        time.sleep(0.01)
