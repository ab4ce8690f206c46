"""ScrapeDoResource: its fields, the location of its ledger, and the secrets that it never shows."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, scrape_do_assets
from scrapedo_dagster.api import ScrapeDoError
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.errors import LedgerUrlError


@pytest.fixture
def emulator(token: str) -> Iterator[Emulator]:
    """Slow enough that a job is seen before it ends."""
    with Emulator(token=token, speed=50) as emulator:
        yield emulator


LAUNCHER = """
from dagster._core.launcher import RunLauncher
from dagster._serdes import ConfigurableClass

class ElsewhereRunLauncher(RunLauncher, ConfigurableClass):
    '''Stands for K8sRunLauncher, EcsRunLauncher and their like.'''

    def __init__(self, inst_data=None):
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self):
        return self._inst_data

    @classmethod
    def config_type(cls):
        return {}

    @classmethod
    def from_config_value(cls, inst_data, config_value):
        return cls(inst_data)

    def launch_run(self, context):
        raise NotImplementedError

    def terminate(self, run_id):
        raise NotImplementedError
"""


@scrape_do_assets(name="shop")
def shop(_context: dg.AssetExecutionContext) -> list[str]:
    return ["http://127.0.0.1:1/"]


def submit(instance: dg.DagsterInstance, emulator: Emulator, data: Path, **settings: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [shop.assets[0]],
        instance=instance,
        raise_on_error=False,
        resources={
            "scrape_do": ScrapeDoResource(api_token=dg.EnvVar("TOKEN"), base_url=emulator.base_url, **settings),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(data)),
        },
    )


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("TOKEN", token)


def home_with(tmp_path: Path, launcher: str | None) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    chosen = f"run_launcher: {{module: {launcher.replace(':', ', class: ')}}}\n" if launcher else ""
    (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{chosen}")
    return home


@pytest.fixture
def here(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A deployment whose runs start on this machine."""
    with dg.DagsterInstance.from_config(str(home_with(tmp_path, None))) as instance:
        yield instance


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """A deployment whose runs start on other machines."""
    (tmp_path / "elsewhere_launcher.py").write_text(LAUNCHER)
    monkeypatch.syspath_prepend(tmp_path)
    home = home_with(tmp_path, "elsewhere_launcher:ElsewhereRunLauncher")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_the_ledger_is_a_file_under_the_dagster_home(here: dg.DagsterInstance, emulator: Emulator, data: Path) -> None:
    assert submit(here, emulator, data).success
    assert (Path(here.root_directory) / "scrapedo" / "ledger.db").is_file()


def test_ledger_url_moves_the_ledger(here: dg.DagsterInstance, emulator: Emulator, data: Path, tmp_path: Path) -> None:
    assert submit(here, emulator, data, ledger_url=f"sqlite:///{tmp_path / 'deep' / 'my.db'}").success
    assert (tmp_path / "deep" / "my.db").is_file()
    assert not (Path(here.root_directory) / "scrapedo").exists()


@pytest.mark.parametrize("named", [False, True])
def test_a_file_as_ledger_is_refused_where_runs_start_elsewhere(
    elsewhere: dg.DagsterInstance, emulator: Emulator, data: Path, tmp_path: Path, named: bool
) -> None:
    settings = {"ledger_url": f"sqlite:///{tmp_path / 'my.db'}"} if named else {}
    failed = submit(elsewhere, emulator, data, **settings)
    [event] = [event for event in failed.all_events if event.is_run_failure]
    message = str(event.job_failure_data.error)
    assert "ElsewhereRunLauncher may start runs on other machines" in message
    assert "Set `ledger_url` to a database that all machines reach" in message
    assert emulator.jobs() == []
    assert emulator.requests() == {}
    assert not (tmp_path / "my.db").exists()
    assert not (Path(elsewhere.root_directory) / "scrapedo").exists()


def test_a_server_as_ledger_is_not_refused_where_runs_start_elsewhere(elsewhere: dg.DagsterInstance) -> None:
    resource = ScrapeDoResource(api_token="t", ledger_url="postgresql+psycopg://me:sesame@127.0.0.1:1/ledger")
    with dg.build_resources({"scrape_do": resource}, instance=elsewhere) as resources:
        assert "127.0.0.1" in repr(resources.scrape_do.ledger)
        assert "sesame" not in repr(resources.scrape_do.ledger)


def test_secrets_are_in_no_repr_event_or_file(
    here: dg.DagsterInstance, emulator: Emulator, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The password is the canary too, for which every file of the home is looked through after the test.
    url = f"postgresql+psycopg://me:{emulator.token}@127.0.0.1:1/ledger"
    assert emulator.token not in repr(ScrapeDoResource(api_token=emulator.token, ledger_url=url))
    monkeypatch.setenv("LEDGER_URL", url)
    failed = submit(here, emulator, data, ledger_url=dg.EnvVar("LEDGER_URL"))
    assert not failed.success
    assert emulator.jobs() == []
    events = "".join(dg.serialize_value(entry) for entry in here.all_logs(failed.run_id))
    assert "127.0.0.1" in events  # the error of the database, which says where it was looked for
    assert emulator.token not in events


def test_an_invalid_ledger_url_is_refused_without_being_shown() -> None:
    resource = ScrapeDoResource(api_token="t", ledger_url="me:sesame at database")
    with pytest.raises(LedgerUrlError) as raised, resource.process_config_and_initialize_cm():
        pass
    assert "sesame" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_outside_a_run_it_works_while_it_is_initialized(tmp_path: Path, emulator: Emulator) -> None:
    resource = ScrapeDoResource(
        api_token=dg.EnvVar("TOKEN"), base_url=emulator.base_url, ledger_url=f"sqlite:///{tmp_path / 'my.db'}"
    )
    with pytest.raises(dg.DagsterInvariantViolationError, match="process_config_and_initialize_cm"):
        _ = resource.ledger
    with resource.process_config_and_initialize_cm() as initialized:
        assert initialized.ledger.submissions.find() == []
        with initialized.client() as client:
            assert client.get_user_info().available_credits


def test_a_ledger_that_nobody_used_is_not_opened_to_be_closed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'my.db'}"
    with ScrapeDoResource(api_token="t", ledger_url=url).process_config_and_initialize_cm():
        pass
    assert not (tmp_path / "my.db").exists()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("request_timeout", "timeout"), [(600, 0.5), (1, 600)])
def test_a_short_timeout_client_gives_up_before_a_killed_process_would(
    silent_url: str, request_timeout: int, timeout: float
) -> None:
    resource = ScrapeDoResource(api_token="t", base_url=silent_url, request_timeout=request_timeout)
    started = time.monotonic()
    with resource.short_timeout_client(timeout) as client, pytest.raises(ScrapeDoError):
        client.get_user_info()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("field", ["api_token", "ledger_url", "webhook_secret"])
def test_asterisks_of_the_launchpad_are_not_taken_for_a_secret(field: str, emulator: Emulator, tmp_path: Path) -> None:
    """The Launchpad shows asterisks in place of secrets in the config that it scaffolds."""
    settings = {"api_token": "t", "webhook_url": emulator.base_url, "webhook_secret": "s" * 24, field: "********"}
    resource = ScrapeDoResource(base_url=emulator.base_url, **settings)
    refused = pytest.raises(dg.DagsterInvariantViolationError, match=f"{field}.*Delete `resources:`")
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance, refused:
        dg.build_resources({"scrape_do": resource}, instance=instance).__enter__()
    assert emulator.requests() == {}


VALUES: dict[str, tuple[Any, str, Any]] = {
    "api_token": (dg.EnvVar("FIELD"), "t", "t"),
    "base_url": (dg.EnvVar("FIELD"), "http://127.0.0.1:1", "http://127.0.0.1:1"),
    "request_timeout": (dg.EnvVar.int("FIELD"), "7", 7),
    "max_attempts": (dg.EnvVar.int("FIELD"), "7", 7),
    "max_concurrency": (dg.EnvVar.int("FIELD"), "7", 7),
    "ledger_url": (dg.EnvVar("FIELD"), "sqlite://", "sqlite://"),
    "webhook_url": (dg.EnvVar("FIELD"), "https://hooks.example", "https://hooks.example"),
    "webhook_secret": (dg.EnvVar("FIELD"), "s" * 24, "s" * 24),
}
REQUIRED = {"api_token": "t", "ledger_url": "sqlite://"}
OTHER_HALF = {"webhook_url": {"webhook_secret": "s" * 24}, "webhook_secret": {"webhook_url": "https://hooks.example"}}


class TestEnvironmentVariables:
    def test_every_field_is_tested_and_described(self) -> None:
        assert VALUES.keys() == ScrapeDoResource.model_fields.keys()
        assert all(field.description for field in ScrapeDoResource.model_fields.values())

    @pytest.mark.parametrize("name", VALUES)
    def test_every_field_takes_a_variable(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        variable, value, expected = VALUES[name]
        monkeypatch.setenv("FIELD", value)
        resource = ScrapeDoResource(**{**REQUIRED, **OTHER_HALF.get(name, {}), name: variable})
        with resource.process_config_and_initialize_cm() as initialized:
            assert getattr(initialized, name) == expected
        with dg.build_init_resource_context(resources={"scrape_do": resource}) as context:
            assert getattr(context.resources.scrape_do, name) == expected
        seen = []

        @dg.asset
        def reader(scrape_do: ScrapeDoResource) -> None:
            seen.append(getattr(scrape_do, name))

        definitions = dg.Definitions([reader], resources={"scrape_do": resource})
        assert definitions.resolve_implicit_global_asset_job_def().execute_in_process().success
        assert seen == [expected]

    @pytest.mark.parametrize("name", ["request_timeout", "max_attempts", "max_concurrency"])
    def test_the_value_of_a_variable_has_the_bounds_of_the_field(self, monkeypatch, name: str) -> None:
        monkeypatch.setenv("FIELD", "0")
        with pytest.raises(ValidationError, match=f"(?s){name}.*greater than or equal to 1"):
            ScrapeDoResource(**{**REQUIRED, name: 0})
        resource = ScrapeDoResource(**{**REQUIRED, name: dg.EnvVar.int("FIELD")})
        with (
            pytest.raises(ValidationError, match=f"(?s){name}.*greater than or equal to 1"),
            resource.process_config_and_initialize_cm(),
        ):
            pass

    @pytest.mark.parametrize("name", ["base_url", "webhook_url"])
    def test_urls_are_checked_where_they_are_literal(self, name: str) -> None:
        with pytest.raises(ValidationError, match=r"'hooks\.example' is not an http or https URL"):
            ScrapeDoResource(**{**REQUIRED, **OTHER_HALF.get(name, {}), name: "hooks.example"})

    @pytest.mark.parametrize("name", ["base_url", "webhook_url"])
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("ftp://user:hidden@h.example", "'ftp://h.example' is not an http or https URL"),
            ("https://user:hidden@h.example:99999", "'https://h.example:99999' is not a valid URL"),
            ("h.example/?key=hidden", "'h.example/' is not an http or https URL"),
            (" https://h.example/#hidden", "contains white space"),
        ],
    )
    def test_an_error_shows_neither_credentials_nor_query_of_a_url(self, name: str, url: str, reason: str) -> None:
        with pytest.raises(ValidationError, match=re.escape(reason)) as e:
            ScrapeDoResource(**{**REQUIRED, **OTHER_HALF.get(name, {}), name: url})
        assert "hidden" not in str(e.value)
