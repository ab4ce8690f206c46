"""The package as Dagster and type checkers see it."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from dagster_shared.libraries import DagsterLibraryRegistry

import scrapedo_dagster
import scrapedo_dagster.api

ROOT = Path(__file__).parents[1]


def test_dagster_knows_the_library_and_its_version() -> None:
    assert DagsterLibraryRegistry.get()["scrapedo-dagster"] == scrapedo_dagster.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", scrapedo_dagster.__version__)


def test_every_public_name_is_there_and_documented() -> None:
    for module in (scrapedo_dagster, scrapedo_dagster.api):
        for name in module.__all__:
            documented = name in {"__version__", "BrowserAction", "CancelJobResponse", "WebhookPayload"}
            assert documented or getattr(module, name).__doc__, name


def test_the_type_marker_is_shipped() -> None:
    assert (Path(scrapedo_dagster.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_the_wheel_has_the_package_and_not_the_programs_of_the_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = {name.removeprefix("scrapedo_dagster/") for name in zipfile.ZipFile(wheel).namelist()}
    assert {f"{each}__init__.pyi" for each in ("", "api/", "emulator/")} <= names  # read at run time
    assert {"py.typed", "demo/definitions.py", "engine/ledger/migrations/env.py", "emulator/demo_site.py"} <= names
    assert {name for name in names if name.startswith("demo/")} == {"demo/__init__.py", "demo/definitions.py"}


@pytest.mark.slow
def test_the_demo_loads_without_a_deprecation_beta_or_preview_warning() -> None:
    program = """
import warnings
from dagster._utils.warnings import BetaWarning, PreviewWarning, SupersessionWarning
for kind in (DeprecationWarning, BetaWarning, PreviewWarning, SupersessionWarning):
    warnings.simplefilter("error", kind)
from scrapedo_dagster.demo.definitions import defs
keys = defs.resolve_asset_graph().get_all_asset_keys()
assert {key.path[0] for key in keys} == {"catalogue", "page_titles", "ad_hoc"}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
