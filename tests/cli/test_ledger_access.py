"""Errors of the ledger and of settings are one-line messages without secrets."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from scrapedo_dagster.engine.ledger.migrations.names import VERSION_TABLE
from tests.support.cli import Planner, Run, objects


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["cancel", "1"], ["reconcile"]])
def test_a_missing_ledger_is_an_error_and_not_created(run: Run, home: Path, command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 1
    assert f"no ledger at {home / 'scrapedo' / 'ledger.db'}" in result.output
    assert not home.exists()


def test_a_database_without_a_ledger_is_an_error_and_not_changed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = path.read_bytes()
    result = run("list", "--ledger-url", f"sqlite:///{path}")
    assert result.exit_code == 1
    assert "has no ledger" in result.output
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, whatever its name " * 100)
    result = run("list", "--ledger-url", f"sqlite:///{tmp_path / 'notes.txt'}")
    assert result.exit_code == 1
    assert "not a database" in result.output


def test_an_unknown_ledger_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    result = run("list")
    assert result.exit_code == 2
    assert "SCRAPE_DO_LEDGER_URL" in result.output


def test_the_ledger_of_the_environment_is_used(
    run: Run, plan: Planner, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.planned()
    monkeypatch.setenv("SCRAPE_DO_LEDGER_URL", f"sqlite:///{home / 'scrapedo' / 'ledger.db'}")
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    assert len(objects(run("list", "--json"))) == 1


@pytest.mark.parametrize("command", [["cancel", "1"], ["reconcile"]])
def test_a_missing_token_is_named(run: Run, plan: Planner, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.delenv("SCRAPE_DO_API_KEY")
    result = run(*command)
    assert result.exit_code == 1
    assert "SCRAPE_DO_API_KEY" in result.output


def test_an_unreachable_database_is_reported_without_its_password(run: Run) -> None:
    result = run("list", "--ledger-url", "postgresql+psycopg://me:sesame@127.0.0.1:1/ledger")
    assert result.exit_code == 1
    assert "127.0.0.1" in result.output
    assert "refused" in result.output
    assert "sesame" not in result.output


def test_a_password_in_an_error_of_the_driver_is_masked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_engine: sa.Engine) -> None:
        raise sa.exc.OperationalError("connect", {}, Exception("no user me with password sesame"))

    monkeypatch.setattr(sa, "inspect", refuse)
    result = run("list", "--ledger-url", "postgresql+psycopg://me:sesame@127.0.0.1:1/ledger")
    assert result.exit_code == 1
    assert "no user me with password ***" in result.output


def test_an_invalid_url_is_not_repeated_in_the_error(run: Run) -> None:
    result = run("list", "--ledger-url", "me:sesame at database")
    assert result.exit_code == 1
    assert "SQLAlchemy URL" in result.output
    assert "sesame" not in result.output


def test_a_ledger_of_a_newer_release_is_not_changed(run: Run, plan: Planner) -> None:
    plan.planned()
    with plan.ledger.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    result = run("list")
    assert result.exit_code == 1
    assert "newer release" in result.output
