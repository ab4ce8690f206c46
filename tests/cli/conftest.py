"""Fixtures of the command line: an emulator, a ledger, and a runner of commands."""

from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from scrapedo_dagster.cli.main import main
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.ledger.ledger import Ledger
from tests.support.cli import Planner, Run


@pytest.fixture
def emulator(token: str) -> Iterator[Emulator]:
    """Slow enough that tests see jobs before they end."""
    with Emulator(token=token, speed=50) as emulator:
        yield emulator


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Ledger:
    """The default ledger of a deployment."""
    ledger = Ledger(f"sqlite:///{home / 'scrapedo' / 'ledger.db'}")
    ledger.submissions.find()
    return ledger


@pytest.fixture
def run(emulator: Emulator, token: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("SCRAPE_DO_API_KEY", token)
    monkeypatch.setenv("SCRAPE_DO_BASE_URL", emulator.base_url)
    monkeypatch.delenv("SCRAPE_DO_LEDGER_URL", raising=False)

    def run(*arguments: str) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main, ["jobs", *arguments])
        # Errors are messages without a traceback and without secrets.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert token not in result.output
        return result

    return run


@pytest.fixture
def plan(ledger: Ledger, emulator: Emulator, site: DemoSite, token: str) -> Planner:
    return Planner(ledger, emulator, site, token)
