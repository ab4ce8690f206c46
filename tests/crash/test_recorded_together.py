"""A thousand jobs have ended: two workers record that at once, or one is killed in the middle."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.ledger import Ledger, Scope, account_of
from scrapedo_dagster.engine.ledger_tables import submissions as table
from scrapedo_dagster.engine.states import State
from scrapedo_dagster.engine.targets import entries_of

AMOUNT = 1000


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    return request.getfixturevalue("postgres") if request.param == "postgres" else None


def submit(work):
    """A partition of many jobs, by the ledger."""
    ledger = Ledger(work.ledger_url)
    scope = Scope(account_of(work.emulator.token), "shop", "mon")
    batches = [entries_of([f"https://shop.example/{number}"], "raise") for number in range(AMOUNT)]
    assert ledger.plan(scope, 1, batches, fingerprint="f", run_id=None)
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
