"""The pages of docs/: their code runs as it is printed, their commands exist, and the reference is that of the code."""

import importlib.util
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DAY, NEXT_DAY = "2026-01-05", "2026-01-06"
EXECUTED_HERE = ("quickstart", "datasets", "deferred", "backfills", "production")
EXECUTED_ELSEWHERE = {
    "component": "tests/component/test_component.py",
    "emulator": "tests/test_readme.py",
    "ledger": "tests/test_readme.py",
    "ops": "tests/test_ops.py",
    "performance": "tests/test_benchmarks.py",
    "webhooks": "tests/webhooks",
    "architecture": "tests/test_architecture.py",
    "reference": "generated",
}


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def run(page: str, monkeypatch: pytest.MonkeyPatch, **replaced: str) -> dict[str, Any]:
    """The names that a page's Python has defined, in a module that can be found, as a reader's would be."""
    module = type(sys)(f"page_{page}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page, "python"):
        for printed, local in replaced.items():
            block = block.replace(printed, local)
        exec(compile(block, f"{page}.md", "exec"), module.__dict__)
    return module.__dict__


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator(token="practice", speed=50) as emulator:
        monkeypatch.setenv("SCRAPE_DO_API_KEY", "practice")
        yield emulator


def resources(emulator: Emulator, directory: Path) -> dg.Definitions:
    from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource

    return dg.Definitions(
        resources={
            "scrape_do": ScrapeDoResource(api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url=emulator.base_url),
            "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(directory)),
        }
    )


def test_every_page_is_executed() -> None:
    assert {page.stem for page in DOCS.glob("*.md")} == {*EXECUTED_HERE, *EXECUTED_ELSEWHERE}
    for page, test in EXECUTED_ELSEWHERE.items():
        assert test == "generated" or (ROOT / test).exists(), page


def test_the_quick_start_scrapes(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    definitions, reading = blocks("quickstart", "python")
    with DemoSite() as site:
        names: dict[str, Any] = {}
        definitions = (
            definitions.replace("http://127.0.0.1:8765", emulator.base_url)
            .replace(
                "https://example.com/products/{number}",
                site.base_url + "/{context.partition_key}/products/{number + 1}",
            )
            .replace("/tmp/scraped", str(tmp_path))
            .replace("range(20)", "range(3)")
        )
        exec(definitions, names)
        job = names["defs"].resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(partition_key=DAY).success
        exec(reading.replace("/tmp/scraped", str(tmp_path)), names)
    assert list(names["tasks"]["status_code"]) == [200] * 3


def test_the_project_of_the_quick_start_is_one_of_dg() -> None:
    [block] = blocks("quickstart", "toml")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    said = tomllib.loads(block)["tool"]["dg"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["dg"]
    assert said["directory_type"] == ours["directory_type"]
    assert said["project"].keys() <= ours["project"].keys()


def keys_of(partitions_def: dg.PartitionsDefinition | None, instance: dg.DagsterInstance) -> list[str | None]:
    """Partitions to try a page with: two of a kind, or None of what has no partitions."""
    if partitions_def is None:
        return [None]
    if isinstance(partitions_def, dg.DynamicPartitionsDefinition):
        instance.add_dynamic_partitions(str(partitions_def.name), ["some", "others"])
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        return [key for key in partitions_def.get_partition_keys() if DAY in key]
    if isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return [DAY, NEXT_DAY]
    return [*partitions_def.get_partition_keys(dynamic_partitions_store=instance)][:2]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["datasets", "deferred", "backfills"])
def test_everything_that_a_page_defines_can_be_materialized(
    page: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with DemoSite() as site, dg.DagsterInstance.ephemeral() as instance:
        names = run(page, monkeypatch, **{"s3://bucket": str(tmp_path), "https://example.com": site.base_url})
        (tmp_path / "urls").mkdir()
        for day in (DAY, NEXT_DAY):
            (tmp_path / "urls" / f"{day}.csv").write_text(f"sku,url\n1,{site.base_url}/{day}/products/1\n")
        defs = dg.Definitions.merge(names["defs"], resources(emulator, tmp_path / "scraped"))
        dg.Definitions.validate_loadable(defs)
        job, by_partitions = defs.resolve_implicit_global_asset_job_def(), defaultdict(list)
        for key in defs.resolve_asset_graph().get_all_asset_keys():
            by_partitions[defs.resolve_assets_def(key).partitions_def].append(key)
        for partitions_def, selection in by_partitions.items():
            for partition in keys_of(partitions_def, instance):
                assert job.execute_in_process(
                    asset_selection=selection, partition_key=partition, instance=instance
                ).success
    tables = [key for keys in by_partitions.values() for key in keys if key.path[-1] == "tasks"]
    assert tables
    for key in tables:
        assert set(pd.read_parquet(tmp_path.joinpath("scraped", *key.path))["status"]) == {"success"}


def test_an_asset_of_the_page_loads_the_days_of_its_run(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with DemoSite() as site:
        names = run("datasets", monkeypatch, **{"https://example.com": site.base_url})
        given = resources(emulator, tmp_path).resources
        edges = zip(("start", "end"), (DAY, NEXT_DAY), strict=True)
        result = dg.materialize(
            [*names["news"].assets, names["total_bytes"]],
            resources=given,
            tags={f"dagster/asset_partition_range_{edge}": day for edge, day in edges},
        )
    contents = pd.read_parquet(tmp_path / "news" / "contents")
    assert set(contents["partition"]) == {DAY, NEXT_DAY}
    told = {each.partition: each.metadata for each in result.asset_materializations_for_node("total_bytes")}
    assert {key: metadata["bytes"].value for key, metadata in told.items()} == dict.fromkeys(
        (DAY, NEXT_DAY), contents["content"].map(len).sum()
    )


def test_the_resources_of_production_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("production", monkeypatch)
    monkeypatch.setenv("SCRAPE_DO_API_KEY", "t")
    monkeypatch.setenv("SCRAPE_DO_LEDGER_URL", "postgresql+psycopg://user:password@host/database")
    with names["defs"].resources["scrape_do"].process_config_and_initialize_cm() as initialised:
        assert "password" not in repr(initialised.ledger)


def test_the_instance_of_production_is_one(tmp_path: Path) -> None:
    [block] = blocks("production", "yaml")
    (tmp_path / "dagster.yaml").write_text(block, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled


def test_commands_on_the_pages_exist() -> None:
    from scrapedo_dagster.cli.main import main

    for page in EXECUTED_HERE:
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        for command in re.findall(r"(?:^|`)scrapedo-dagster ([^`\n#]+)", text, flags=re.MULTILINE):
            group: Any = main
            words = shlex.split(command)
            while hasattr(group, "commands"):
                group = group.commands[words.pop(0)]
            group.make_context("it", [word.replace("{dataset.name}", "x") for word in words])


def test_what_the_pages_point_at_exists() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (DOCS / target).exists(), f"{page.name}: {target}"


def test_the_reference_is_that_of_the_docstrings() -> None:
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert page == module.reference(), "docs/reference.md is old: run `make reference`"
