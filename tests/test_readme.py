"""Every code block of the README and of docs/ runs as it is printed."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from scrapedo_dagster.cli.main import jobs
from scrapedo_dagster.emulator import Emulator, Faults
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.reconcile import ClaimPolicy
from scrapedo_dagster.execution.termination import CANCEL_SECONDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LEDGER_PAGE = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
EMULATOR_PAGE = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator(speed=50) as emulator:
        monkeypatch.setenv("SCRAPE_DO_API_KEY", emulator.token)
        yield emulator


def test_the_dataset_of_the_readme_scrapes_and_loads(service: Emulator, tmp_path: Path) -> None:
    with DemoSite() as site:
        names: dict[str, Any] = {}
        # Fewer pages, and places on this machine, instead of the reader's own.
        here = {
            "https://example.com/products/{number}?day={context.partition_key}": (
                site.base_url + "/{context.partition_key}/products/{number + 1}"
            ),
            "range(5000)": "range(5)",
            "s3://bucket/scraped": str(tmp_path),
            'api_token=dg.EnvVar("SCRAPE_DO_API_KEY")': (
                f'api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url="{service.base_url}"'
            ),
        }
        for block in BLOCKS[:2]:
            for printed, local in here.items():
                block = block.replace(printed, local)
            exec(block, names)
        defs = dg.Definitions.merge(names["defs"], dg.Definitions(assets=[names["titles"]]))
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(partition_key="2026-01-05")
        assert result.success
        titles = result.output_for_node("titles")["title"]
        assert len(titles) == 5
        assert titles.str.contains("No. ").all()


def test_the_client_of_the_readme_scrapes(service: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    with DemoSite() as site:
        page = f"{site.base_url}/2026-01-05/products/1"
        block = BLOCKS[2].replace("https://example.com", page)
        block = block.replace("ScrapeDoAsyncAPIClient()", f"ScrapeDoAsyncAPIClient(base_url={service.base_url!r})")
        exec(block, {})
    assert re.fullmatch(rf"{re.escape(page)} 200 \d{{3}}\n", capsys.readouterr().out)


def test_the_blocks_of_the_emulators_page_run() -> None:
    for block in re.findall(r"```python\n(.*?)```", EMULATOR_PAGE, flags=re.DOTALL):
        exec(block, {})


def test_the_faults_of_the_emulators_page_are_faults(tmp_path: Path) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", EMULATOR_PAGE, flags=re.DOTALL)
    (tmp_path / "faults.toml").write_text(block)
    faults = Faults.load(tmp_path / "faults.toml")
    assert (len(faults.calls), len(faults.targets), len(faults.jobs)) == (2, 1, 1)


def test_the_blocks_of_the_ledgers_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"```python\n(.*?)```", LEDGER_PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    monkeypatch.setenv("SCRAPE_DO_API_KEY", "t")
    monkeypatch.setenv("SCRAPE_DO_LEDGER_URL", "postgresql+psycopg://user:password@host/database")
    resource = names["defs"].resources["scrape_do"]
    with resource.process_config_and_initialize_cm() as initialised:
        assert repr(initialised.ledger) == "Ledger('postgresql+psycopg://user:***@host/database')"


def test_the_ledgers_page_knows_every_state_and_only_commands_that_exist() -> None:
    states = re.findall(r"^\| `([a-z]+)` \|", LEDGER_PAGE, flags=re.MULTILINE)
    assert sorted(states) == sorted(state.value for state in State)
    for command in re.findall(r"(?:^\$ |`)scrapedo-dagster ([^`\n]+)", LEDGER_PAGE, flags=re.MULTILINE):
        name, *arguments = shlex.split(command)
        assert name == "jobs"
        subcommand = jobs.commands[arguments[0]]
        subcommand.make_context("it", arguments[1:])  # raises for what it does not know


def test_the_times_of_the_ledgers_page_are_those_of_the_code() -> None:
    claim_policy = ClaimPolicy()
    assert f"after {claim_policy.lease.total_seconds():.0f} s" in LEDGER_PAGE
    assert f"only {claim_policy.absent_after.total_seconds():.0f} s after" in LEDGER_PAGE
    assert f"{claim_policy.grace:g} s for its answer, canceling {CANCEL_SECONDS:g} s" in LEDGER_PAGE


def test_the_readme_has_no_block_that_is_not_run() -> None:
    assert len(BLOCKS) == 3


def test_what_the_readme_points_at_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_the_commands_of_the_readme_are_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"^(?:[A-Z_]+=\S+ )*make ([a-z-]+)", TEXT, flags=re.MULTILINE)) <= targets
