"""The token of the tests is a canary: where it turns up after a test, the token of a user would have leaked.

Looked through after each test that passed: what it printed and logged, and all files in its `tmp_path` and in the home
of its Dagster `instance`, with the columns of Parquet files and databases decoded, since these are compressed. Errors
are seen where they are logged, or stored as events. What the tests of the api layer make of the token they look at
themselves, in every error.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.dagster import (  # noqa: F401 - fixtures of all tests; some rooms have others of these names
    collect,
    data,
    defs_of,
    emulator,
    ended,
    events,
    instance,
    ledger,
    materialize,
    pages,
    resources,
    service_url,
    shop,
    site,
    tick,
    tick_log,
)
from tests.support.postgres import postgres  # noqa: F401 - a fixture

CANARY = "canary-" + "7f3a9c"


def find_canary(directory: Path) -> list[str]:
    """The files below `directory` that have the canary in them, also compressed."""
    return [str(path) for path in sorted(directory.rglob("*")) if path.is_file() and _has_canary(path)]


def _has_canary(path: Path) -> bool:
    with suppress(FileNotFoundError):  # a server may still be at work
        return CANARY in path.name or any(CANARY.encode() in piece for piece in _pieces(path))
    return False


def _pieces(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    if path.suffix == ".parquet":
        with suppress(pa.ArrowException):  # half of one
            for batch in pq.ParquetFile(path).iter_batches():
                yield repr(batch.to_pylist()).encode()
    if content.startswith(b"SQLite format 3\0"):
        yield from _values(path)


def _values(database: Path) -> Iterator[bytes]:
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f'select * from "{table}"'):
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()
                    if isinstance(value, bytes):
                        with suppress(zlib.error):
                            yield zlib.decompress(value)


def _places(item: pytest.Item) -> Iterator[Path]:
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    if isinstance(tmp_path := arguments.get("tmp_path"), Path):
        yield tmp_path
    if isinstance(home := getattr(arguments.get("instance"), "root_directory", None), str):
        yield Path(home)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed:
        leaks = [name for name, text in report.sections if CANARY in text]
        leaks += [path for place in _places(item) for path in find_canary(place)]
        if leaks:
            report.outcome = "failed"
            report.longrepr = f"The token has leaked into: {', '.join(leaks)}"
    return report


@pytest.fixture(name="find_canary")
def _find_canary() -> Callable[[Path], list[str]]:
    return find_canary


@pytest.fixture
def canary() -> str:
    return CANARY


@pytest.fixture
def token() -> str:
    return CANARY
