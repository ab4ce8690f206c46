"""A table of scraped pages, and ways to fill it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import fs

from scrapedo_dagster.engine.parquet import CompleteGeneration, ParquetStore, ParquetTable
from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA


@pytest.fixture
def memory_store() -> ParquetStore:
    base = f"fsspec+memory:///{uuid4().hex}"
    try:
        fs.FileSystem.from_uri(base)
    except pa.ArrowInvalid:
        pytest.skip("this release of pyarrow knows no fsspec URIs")
    return ParquetStore(base)


@pytest.fixture(params=["path", "file", "mock", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ParquetStore:
    """A store on each kind of filesystem that runs here: local, and two that are not."""
    if request.param == "memory":
        store: ParquetStore = request.getfixturevalue("memory_store")
        return store
    return ParquetStore({"path": str(tmp_path), "file": tmp_path.as_uri(), "mock": "mock:///bucket"}[request.param])


@pytest.fixture
def any_pages(any_store: ParquetStore) -> ParquetTable:
    return any_store.table(["shop", "contents"], CONTENTS_SCHEMA)


@pytest.fixture
def pages(tmp_path: Path) -> ParquetTable:
    return ParquetStore(str(tmp_path)).table(["shop", "contents"], CONTENTS_SCHEMA)


@pytest.fixture
def batch_of() -> Callable[..., pa.RecordBatch]:
    def batch_of(*urls: str, content: bytes = b"<html>") -> pa.RecordBatch:
        rows = [{"task_id": f"task of {url}", "url": url, "content": content} for url in urls]
        return pa.RecordBatch.from_pylist(rows, schema=CONTENTS_SCHEMA)

    return batch_of


@pytest.fixture
def write_part(batch_of: Callable[..., pa.RecordBatch]) -> Callable[..., None]:
    """Commit a part with these urls, without completing its generation."""

    def write_part(table: ParquetTable, partition: str | None, generation: int, index: int, *urls: str) -> None:
        with table.open_part(partition, generation, index) as part:
            part.write(batch_of(*urls))

    return write_part


@pytest.fixture
def scrape(write_part: Callable[..., None]) -> Callable[..., CompleteGeneration]:
    """Write and complete a generation: one part for each list of urls."""

    def scrape(
        table: ParquetTable, partition: str | None, generation: int, *parts: Iterable[str]
    ) -> CompleteGeneration:
        for index, urls in enumerate(parts):
            write_part(table, partition, generation, index, *urls)
        return table.complete_generation(partition, generation, range(len(parts)))

    return scrape


@pytest.fixture
def urls_of() -> Callable[..., list[str]]:
    """What a reader of these partitions gets."""

    def urls_of(table: ParquetTable, *partitions: str | None) -> list[str]:
        keys = None if partitions == (None,) else [key for key in partitions if key is not None]
        urls: list[str] = table.dataset(keys).to_table(columns=["url"])["url"].to_pylist()
        return sorted(urls)

    return urls_of
