"""The check of every test for leaked tokens finds them wherever they may be."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.targets.target import Entry

FindCanary = Callable[[Path], list[str]]

LEAKS = """
import logging, sys
import pytest

CANARY = "canary-" + "7f3a9c"

def test_nothing(tmp_path): (tmp_path / "file").write_text("canary-")
def test_stdout(): print(CANARY)
def test_stderr(): print(CANARY, file=sys.stderr)
def test_log(): logging.getLogger("x").warning("with %s", CANARY)
def test_file(tmp_path): (tmp_path / "deep").mkdir(); (tmp_path / "deep" / "file").write_text(f"x{CANARY}x")
@pytest.fixture
def instance(tmp_path_factory):
    class Instance: root_directory = str(tmp_path_factory.mktemp("home"))
    return Instance
def test_home(instance): open(instance.root_directory + "/run.log", "w").write(CANARY)
def test_that_failed_is_left_to_its_own_message(): assert CANARY == ""
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory that the check of this test itself does not look at."""
    with tempfile.TemporaryDirectory(prefix="scrapedo-canary-") as directory:
        yield Path(directory)


def test_it_is_found_in_any_file(elsewhere: Path, canary: str, find_canary: FindCanary) -> None:
    (elsewhere / "a").mkdir()
    (elsewhere / "a" / "file").write_bytes(b"\x00\xff" + canary.encode() + b"\xff")
    (elsewhere / f"{canary}.txt").touch()
    (elsewhere / "clean").write_text(canary[:-1])
    assert [Path(path).name for path in find_canary(elsewhere)] == ["file", f"{canary}.txt"]


@pytest.mark.parametrize("column", ["text", "bytes", "headers"])
def test_it_is_found_in_compressed_parquet(elsewhere: Path, canary: str, find_canary: FindCanary, column: str) -> None:
    told = f"a long page {'with much text ' * 50} {canary}"
    values = {"text": "", "bytes": b"", "headers": [("a", "")]}
    values[column] = {"text": told, "bytes": told.encode(), "headers": [("X-Token", canary)]}[column]
    schema = pa.schema({"text": pa.string(), "bytes": pa.large_binary(), "headers": pa.map_(pa.string(), pa.string())})
    path = elsewhere / "part.parquet"
    pq.write_table(pa.Table.from_pylist([values] * 100, schema=schema), path, compression="zstd")
    assert find_canary(elsewhere) == [str(path)]


def test_it_is_found_in_the_ledger_also_where_that_compresses(
    elsewhere: Path, canary: str, find_canary: FindCanary
) -> None:
    ledger = Ledger(f"sqlite:///{elsewhere / 'ledger.db'}")
    ledger.generations.plan(
        PartitionRef("a", "shop", None),
        1,
        [(Entry(0, f"https://a.example/?{'x' * 99}"),)],
        fingerprint="f",
        run_id=None,
    )
    assert find_canary(elsewhere) == []
    url = f"https://a.example/?token={canary}"
    ledger.generations.plan(PartitionRef("a", "shop", None), 2, [(Entry(0, url),) * 9], fingerprint="f", run_id=None)
    assert str(elsewhere / "ledger.db") in find_canary(elsewhere)
    ledger.close()


@pytest.mark.slow
def test_a_test_that_leaks_fails(elsewhere: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), elsewhere / "conftest.py")
    (elsewhere / "test_leaks.py").write_text(LEAKS, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(elsewhere / "tmp"),
    ]
    run = subprocess.run([*command, "test_leaks.py"], cwd=elsewhere, capture_output=True, text=True, check=False)
    summary = [
        line.split(" - ")[0] for line in run.stdout.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR"))
    ]
    failed = ["file", "home", "log", "stderr", "stdout", "that_failed_is_left_to_its_own_message"]
    assert sorted(summary) == [
        *(f"FAILED test_leaks.py::test_{name}" for name in failed),
        "PASSED test_leaks.py::test_nothing",
    ]
    assert run.stdout.count("The token has leaked into") >= 5
