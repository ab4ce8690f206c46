"""Writing Parquet: speed and size by codec and row group, and pandas. `python benchmarks/parquet.py [--quick]`."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from harness import Figure, Goal, Measured, Meter, Section, Table, Worker, fresh, main, median_of, range_of, rounds
from local_service import slices, task_ids, urls

SIZE = 50_000
MEANING = """
The writer of `contents` alone, from rows in memory to a file that is not synced, compared with a pandas DataFrame of
the same rows and its `to_parquet` with default settings. A page of 50 KB is a row of 100 KB: its bytes and its text.
MB/s and sizes are those of rows before compression. First each in a new process, as steps are: the writer keeps one row
group in memory, pandas copies everything, which needs new memory. Then with other codecs and row groups in a process
that already has its memory, where compression takes most of the time. The writer uses zstd at level 1 and row groups of
16 MB; pandas uses snappy by default, which is faster and makes larger files.
""".strip().replace("\n", " ")

# Codec, level and row group in MB. The first entry has the settings of the writer.
VARIANTS: dict[str, dict[str, Any]] = {
    "zstd 1, 16 MB (ours)": {},
    "uncompressed": {"codec": "none"},
    "snappy": {"codec": "snappy"},
    "zstd 3": {"codec": "zstd", "level": 3},
    "zstd 9": {"codec": "zstd", "level": 9},
    "1 MB row groups": {"row_group": 1},
    "4 MB row groups": {"row_group": 4},
    "64 MB row groups": {"row_group": 64},
}


@lru_cache(1)
def _rows(amount: int) -> list[dict[str, Any]]:
    """Return rows of `contents`, each with a different page."""
    texts, rows = slices(SIZE - 36), []
    for number, (task_id, url) in enumerate(zip(task_ids("job", amount), urls(amount), strict=True)):
        text = task_id + texts[number % len(texts)]
        described = {"task_id": task_id, "url": url, "status_code": 200, "content_type": "text/html"}
        rows.append({**described, "content": text.encode(), "text": text})
    return rows


def ours(
    meter: Meter, *, rows: int, codec: str | None = None, level: int | None = None, row_group: int | None = None
) -> dict[str, Any]:
    """Write as collecting does, optionally with another codec, level or row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from scrapedo_dagster.engine.collection.limits import CollectLimits
    from scrapedo_dagster.engine.storage import row_groups as parquet_part
    from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA

    given, writer, bound = _rows(rows), pq.ParquetWriter, parquet_part.ROW_GROUP_BYTES
    chunk = -(-CollectLimits().chunk_bytes // (2 * SIZE))  # rows per write

    def other(*arguments: Any, **settings: Any) -> pq.ParquetWriter:
        return writer(*arguments, **{**settings, "compression": codec, "compression_level": level})

    if codec is not None:
        pq.ParquetWriter = other
    if row_group is not None:
        parquet_part.ROW_GROUP_BYTES = row_group * 1024 * 1024
    try:
        with tempfile.TemporaryFile() as file:
            with meter, parquet_part.part_writer(file, CONTENTS_SCHEMA) as part:
                for first in range(0, rows, chunk):
                    part.write(pa.Table.from_pylist(given[first : first + chunk], schema=CONTENTS_SCHEMA))
            return _written(file, rows)
    finally:
        pq.ParquetWriter, parquet_part.ROW_GROUP_BYTES = writer, bound


def with_pandas(meter: Meter, *, rows: int, codec: str = "snappy") -> dict[str, Any]:
    """Write a DataFrame of the rows with `to_parquet`."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401

    given = _rows(rows)
    with tempfile.TemporaryDirectory(prefix="scrapedo-benchmark-") as directory:
        path = Path(directory) / "contents.parquet"
        with meter:
            pd.DataFrame(given).to_parquet(path, compression=codec)
        with path.open("rb") as file:
            return _written(file, rows)


def _written(file: Any, rows: int) -> dict[str, Any]:
    """Check the file, and return its size and that of its rows, in MB."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    size = file.seek(0, 2)
    file.seek(0)
    lengths = [
        pc.binary_length(batch["content"]).unique().to_pylist()
        for batch in pq.ParquetFile(file).iter_batches(batch_size=64, columns=["content"])
    ]
    if pq.ParquetFile(file).metadata.num_rows != rows or any(each != [SIZE] for each in lengths):
        raise ValueError("the file does not have the written rows")
    return {"file": size / 1e6, "rows": 2 * rows * SIZE / 1e6}


def measure(quick: bool) -> Section:
    """Compare with pandas, then measure codecs and row groups."""
    amount, times = (200, 1) if quick else (500, 5)
    first = rounds(times, {name: partial(fresh, __file__, name, rows=2 * amount) for name in ("ours", "with_pandas")})
    with ExitStack() as stack:
        writer = stack.enter_context(Worker(__file__, "ours"))
        peer = stack.enter_context(Worker(__file__, "with_pandas"))
        variants = {name: partial(writer.run, rows=amount, **settings) for name, settings in VARIANTS.items()}
        variants["pandas"] = partial(peer.run, rows=amount)
        variants["pandas, zstd"] = partial(peer.run, rows=amount, codec="zstd")
        writer.run(rows=amount)
        peer.run(rows=amount)
        found = rounds(times, variants)
    speed = {name: _speed(each) for name, each in first.items()}
    memory = {name: tuple(one.peak - one.before for one in each) for name, each in first.items()}
    figures = (
        Figure("writing", "MB/s", speed["ours"], "pandas", speed["with_pandas"], (Goal("at least", 3),)),
        Figure("memory in addition to the rows", "MB", memory["ours"], "pandas", memory["with_pandas"]),
    )
    rows = tuple(
        (
            name,
            f"{median_of(_speed(each))} ({range_of(_speed(each)) or '1 round'})",
            median_of([amount / one.wall for one in each]),
            f"{each[0].result['file']:.1f}",
            f"{each[0].result['rows'] / each[0].result['file']:.1f}",
        )
        for name, each in found.items()
    )
    caption = f"{amount:,} rows, {2 * amount * SIZE / 1e6:,.0f} MB, repeatedly in one process."
    table = Table(("", "MB/s (min - max)", "rows/s", "file, MB", "times smaller"), rows, caption)
    return Section("Parquet", MEANING, figures, (table,))


def _speed(measured: list[Measured]) -> tuple[float, ...]:
    return tuple(each.result["rows"] / each.wall for each in measured)


if __name__ == "__main__":
    main(measure, {"ours": ours, "with_pandas": with_pandas})
