"""A code location that only defines datasets loads none of the large libraries that steps and ticks work with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.test_architecture import ROOT

HEAVY = ["aiohttp", "alembic", "httpx", "numpy", "pandas", "pyarrow", "sqlalchemy"]

# Prints for each import of a heavy library the lines that led to it, the outermost first.
WATCH = """
import sys, traceback

class ImportLogger:
    def find_spec(self, name, path, target=None):
        if name in HEAVY:
            frames = [(f.filename, f.lineno) for f in traceback.extract_stack()[:-1] if "importlib" not in f.filename]
            print(name, "is loaded:", " -> ".join(f"{file}:{line}" for file, line in frames))

sys.meta_path.insert(0, ImportLogger())
"""

DATASET = """
from scrapedo_dagster import (
    ScrapeDoParquetIOManager, ScrapeDoResource, ScrapeOptions, Target, TargetsFile, build_scrape_do_assets,
    build_scrape_do_sensor, scrape_do_assets,
)

@scrape_do_assets(
    name="products", partitions_def=dg.DailyPartitionsDefinition("2026-01-01"), options=ScrapeOptions(super=True),
    schedule=True, max_credits=9,
)
def products(context: dg.AssetExecutionContext) -> list[Target]:
    return [Target("https://shop.example/", "front")]

pages = build_scrape_do_assets(name="pages", targets=TargetsFile("urls.csv"))
account = ScrapeDoResource(
    api_token=dg.EnvVar("TOKEN"), webhook_url="https://hooks.example", webhook_secret=dg.EnvVar("SECRET")
)
"""

DEFINITIONS = """
dg.Definitions.merge(
    products.defs,
    dg.Definitions(
        assets=pages.assets, asset_checks=pages.asset_checks, jobs=pages.jobs, sensors=[build_scrape_do_sensor(pages)],
        resources={"scrape_do": account, "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri="s3://bucket/scraped")},
    ),
).get_repository_def()
"""

ALL_NAMES = """
import scrapedo_dagster

for name in scrapedo_dagster.__all__:
    getattr(scrapedo_dagster, name)
"""


def loaded_by(program: str, before: str = "") -> str:
    """Return the logged imports of heavy libraries by the program, after Dagster and `before`."""
    source = f"import dagster as dg\n{before}\nHEAVY = {HEAVY}\n{WATCH}\n{program}\nprint('done')"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_definitions_load_no_heavy_library() -> None:
    assert loaded_by(DATASET + DEFINITIONS + ALL_NAMES) == "done\n"


@pytest.mark.slow
def test_the_demo_loads_no_heavy_library_but_its_own() -> None:
    its_own = "import pandas, bs4, starlette.applications, uvicorn"
    assert (
        loaded_by("import scrapedo_dagster.demo.definitions as demo; demo.defs.get_repository_def()", its_own)
        == "done\n"
    )


def test_what_loads_a_heavy_library_is_named() -> None:
    logged = loaded_by(DATASET + "account.client()")
    assert "httpx is loaded: " in logged
    assert f"{ROOT}/scrapedo_dagster/resource.py:" in logged
