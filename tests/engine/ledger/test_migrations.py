"""The schema of the ledger: created on first use, upgraded in place, never downgraded."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from scrapedo_dagster.engine.errors import LedgerSchemaError
from scrapedo_dagster.engine.ledger.database import create_engine
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.migrate import MIGRATIONS, migrate
from scrapedo_dagster.engine.ledger.migrations.names import VERSION_TABLE
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.tables import metadata
from scrapedo_dagster.engine.targets.target import Entry

WRITTEN_BY_0001 = Path(__file__).with_name("ledger_0001.sql")
WRITTEN_BY_0003 = Path(__file__).with_name("ledger_0003.sql")
REF = PartitionRef("0123456789abcdef0123456789abcdef", "shop", "mon")

LATER = '''
"""What a later release might do: a new table, a column that is filled in, an index, a constraint made anew."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "0004"


def upgrade() -> None:
    op.create_table("scrapedo_outbox", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("scrapedo_submissions", sa.Column("priority", sa.Integer, nullable=False, server_default="5"))
    op.execute("update scrapedo_submissions set priority = 9 where state = 'submitted'")
    with op.batch_alter_table("scrapedo_submissions") as batch:
        batch.alter_column("reason", new_column_name="why")
'''


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database that schema version 0001 has written, byte for byte in its own SQL."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(WRITTEN_BY_0001.read_text(encoding="utf-8"))
    return path


def select(database: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def differences(ledger: Ledger) -> list[Any]:
    """What Alembic would have to change in the database to make it match the tables."""
    with ledger.engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_schema_is_made_on_first_use_and_is_the_one_of_the_tables(ledger: Ledger) -> None:
    assert ledger.submissions.find() == []
    assert differences(ledger) == []


def test_a_difference_between_migrations_and_tables_would_be_seen(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("alter table scrapedo_submissions add column forgotten integer")
        connection.exec_driver_sql("drop index scrapedo_by_state")
    assert {difference[0] for difference in differences(ledger)} == {"remove_column", "add_index"}


def test_rows_that_0001_wrote_are_read_as_they_were(database: Path) -> None:
    ledger = Ledger(f"sqlite:///{database}")
    collected, submitted, uncertain, again = ledger.submissions.with_targets(REF, 1)
    assert collected == SubmissionWithTargets(
        id=1,
        ref=REF,
        generation=1,
        batch=0,
        attempt=0,
        state=State.COLLECTED,
        target_count=2,
        entries=(Entry(0, "https://a.example/"), Entry(1, "https://a.example/ü", "sku")),
        fingerprint="f" * 64,
        claim=None,
        job_id="job-1",
        task_ids=("t1", "t2"),
        run_id="run-1",
        reason=None,
        credits=2,
        succeeded=1,
        planned_at=datetime(2026, 1, 2, 3, 4, 6, 678901, timezone.utc),
        claimed_at=datetime(2026, 1, 2, 3, 4, 7, 678901, timezone.utc),
        submitted_at=datetime(2026, 1, 2, 3, 4, 8, 678901, timezone.utc),
        finished_at=datetime(2026, 1, 2, 3, 4, 9, 678901, timezone.utc),
        collected_at=datetime(2026, 1, 2, 3, 4, 10, 678901, timezone.utc),
        expires_at=None,
    )
    assert (submitted.state, submitted.job_id, submitted.targets) == (State.SUBMITTED, "job-2", ("https://b.example/",))
    assert submitted.entries[1].rejected
    assert (uncertain.state, uncertain.reason) == (State.UNCERTAIN, "the answer was lost")
    assert (again.batch, again.attempt, again.entries) == (3, 1, collected.entries[1:])
    [empty] = ledger.submissions.with_targets(PartitionRef(REF.account, "shop", None), 7)
    assert empty.entries == ()
    assert ledger.submissions.mark_finished(submitted).state == State.FINISHED


@pytest.mark.parametrize("written", [WRITTEN_BY_0001, WRITTEN_BY_0003], ids=lambda path: path.stem)
def test_a_fixture_has_the_schema_that_its_version_makes(written: Path, tmp_path: Path) -> None:
    """Otherwise it would prove nothing about the databases of users."""
    version = written.stem.rpartition("_")[2]
    with closing(sqlite3.connect(tmp_path / "written.db")) as connection:
        connection.executescript(written.read_text(encoding="utf-8"))
    migrate(create_engine(sa.make_url(f"sqlite:///{tmp_path / 'made.db'}")), version)
    shape = "select sql from sqlite_master where sql is not null order by name"
    assert select(tmp_path / "made.db", shape) == select(tmp_path / "written.db", shape)
    assert select(tmp_path / "written.db", f"select version_num from {VERSION_TABLE}") == [(version,)]


def as_utc(value: Any) -> Any:
    return value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value


@pytest.fixture
def ledger_of_0003(any_ledger_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger whose database schema version 0003 has filled, with every state that it could be left in."""
    written = sqlite3.connect(tmp_path / "written.db")
    written.executescript(WRITTEN_BY_0003.read_text(encoding="utf-8"))
    written.close()
    engine = create_engine(sa.make_url(any_ledger_url))
    migrate(engine, "0003")
    source = sa.create_engine(f"sqlite:///{tmp_path / 'written.db'}")
    of_source, of_engine = sa.MetaData(), sa.MetaData()
    of_source.reflect(source)
    of_engine.reflect(engine)
    with source.connect() as old, engine.begin() as new:
        for name in ("scrapedo_submissions", "scrapedo_generations"):
            rows = [
                {column: as_utc(value) for column, value in row.items()}
                for row in old.execute(sa.select(of_source.tables[name])).mappings()
            ]
            new.execute(sa.insert(of_engine.tables[name]), rows)
    source.dispose()
    engine.dispose()
    ledger = Ledger(any_ledger_url)
    yield ledger
    ledger.close()


UNCONFIRMED_IN_0003 = {
    # partition: whether its files are complete, its run key, requested runs, states of its batches
    "planned": (False, None, 0, ["planned"]),
    "submitting": (False, None, 0, ["submitting"]),
    "uncertain": (False, None, 0, ["uncertain"]),
    "submitted": (False, None, 0, ["submitted"]),
    "finished": (False, None, 0, ["finished"]),
    "collected": (False, None, 0, ["collected"]),
    "expired": (False, None, 0, ["expired"]),
    "tried again": (False, None, 0, ["collected", "planned"]),
    "requested": (False, "key-b", 2, ["finished"]),
    "replaced": (False, None, 0, ["planned"]),
    "complete": (True, None, 0, ["collected"]),
    "complete again": (True, None, 0, ["collected"]),
    "complete and requested": (True, "key-c", 1, ["collected"]),
    "2026-01-01_a-list": (False, None, 0, ["submitted", "planned"]),
}
"""What 0003 itself had as unconfirmed. Others were canceled, or Dagster was known to have them."""


def test_what_was_unconfirmed_in_0003_is_unconfirmed_after_the_upgrade(ledger_of_0003: Ledger) -> None:
    found = {
        record.ref.partition: (
            record.completed_at is not None,
            record.collect_key,
            record.collect_attempts,
            [each.state.value for each in batches],
        )
        for record, batches in ledger_of_0003.generations.unconfirmed(REF.account, ["shop", "lists"]).items()
    }
    assert found == UNCONFIRMED_IN_0003
    assert differences(ledger_of_0003) == []


def test_what_was_confirmed_in_0003_has_a_time_after_the_upgrade(ledger_of_0003: Ledger) -> None:
    query = "select partition, generation from scrapedo_generations where confirmed_at = completed_at"
    with ledger_of_0003.engine.connect() as connection:
        confirmed = {tuple(row) for row in connection.exec_driver_sql(query)}
    assert confirmed == {('"confirmed"', 1), ('"confirmed after a request"', 1), ("null", 1)}


def test_a_list_of_0003_has_no_recorded_options_after_the_upgrade(ledger_of_0003: Ledger) -> None:
    ref = PartitionRef(REF.account, "lists", "2026-01-01_a-list")
    assert ledger_of_0003.generations.newest(ref) == 1
    assert ledger_of_0003.generations.recorded_options(ref, 1) is None


def test_every_generation_of_0003_can_be_continued_after_the_upgrade(ledger_of_0003: Ledger) -> None:
    """Each can be completed, requested and confirmed, whatever state it was left in."""
    for record in ledger_of_0003.generations.unconfirmed(REF.account, ["shop", "lists"]):
        ledger_of_0003.generations.mark_completed(record.ref, record.number)
    complete = list(ledger_of_0003.generations.unconfirmed(REF.account, ["shop", "lists"]))
    assert {each.ref.partition for each in complete} == UNCONFIRMED_IN_0003.keys()
    requested = ledger_of_0003.generations.mark_collection_requested(
        complete, "key", again_after=lambda _: timedelta(minutes=1)
    )
    assert set(requested) == set(complete)
    ledger_of_0003.generations.mark_confirmed(ledger_of_0003.generations.unconfirmed(REF.account, ["shop", "lists"]))
    assert ledger_of_0003.generations.unconfirmed(REF.account, ["shop", "lists"]) == {}


@pytest.fixture
def later_release(tmp_path: Path) -> Path:
    """The migrations of a release that knows one schema version more."""
    later = tmp_path / "later"
    (later / "versions").mkdir(parents=True)
    for path in [MIGRATIONS / "env.py", *(MIGRATIONS / "versions").glob("v*.py")]:
        (later / path.relative_to(MIGRATIONS)).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (later / "versions" / "v9999_later.py").write_text(LATER, encoding="utf-8")
    return later


def test_upgrade_in_place_keeps_every_row(database: Path, later_release: Path) -> None:
    columns = "id, state, entries, job_id, task_ids, planned_at"
    before = select(database, f"select {columns}, reason from scrapedo_submissions order by id")
    assert len(before) == 5
    migrate(create_engine(sa.make_url(f"sqlite:///{database}")), migrations=later_release)
    assert select(database, f"select {columns}, why from scrapedo_submissions order by id") == before
    assert select(database, "select id, priority from scrapedo_submissions order by id") == [
        (row[0], 9 if row[1] == "submitted" else 5) for row in before
    ]
    with pytest.raises(sqlite3.IntegrityError):
        select(database, "insert into scrapedo_submissions select * from scrapedo_submissions")


def test_a_database_of_a_newer_release_is_refused_and_left_alone(database: Path, later_release: Path) -> None:
    migrate(create_engine(sa.make_url(f"sqlite:///{database}")), migrations=later_release)
    content = select(database, "select * from scrapedo_submissions")
    with pytest.raises(
        LedgerSchemaError, match=r"newer release of scrapedo-dagster .*Upgrade scrapedo-dagster here"
    ) as e:
        Ledger(f"sqlite:///{database}").submissions.find()
    assert str(database) in str(e.value)
    assert select(database, "select * from scrapedo_submissions") == content


def test_an_upgrade_that_fails_leaves_the_old_schema_with_its_rows(database: Path, later_release: Path) -> None:
    broken = later_release / "versions" / "v9999_later.py"
    broken.write_text(LATER + "    raise RuntimeError('out of luck')\n", encoding="utf-8")
    before = select(database, "select * from scrapedo_submissions")
    with pytest.raises(RuntimeError, match="out of luck"):
        migrate(create_engine(sa.make_url(f"sqlite:///{database}")), migrations=later_release)
    assert select(database, "select * from scrapedo_submissions") == before
    assert select(database, f"select version_num from {VERSION_TABLE}") == [("0001",)]
    assert select(database, "select name from sqlite_master where name = 'scrapedo_outbox'") == []


CREATOR = """
import sys
from scrapedo_dagster.engine.ledger.ledger import Ledger

ledger = Ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(len(ledger.submissions.find()))
"""


def test_two_processes_can_create_it_at_the_same_time(ledger_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, ledger_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
    assert [process.communicate(timeout=60)[0] for process in processes] == ["0\n"] * 3
    database = Path(sa.make_url(ledger_url).database or "")
    assert select(database, f"select count(*) from {VERSION_TABLE}") == [(1,)]


def test_tables_of_others_in_the_same_database_are_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "shared.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "create table alembic_version (version_num text); insert into alembic_version values ('theirs');"
            "create table submissions (id integer);"
        )
    Ledger(f"sqlite:///{database}").submissions.find()
    assert select(database, "select version_num from alembic_version") == [("theirs",)]
