"""Targets read from a file, or taken out of a table in memory."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from scrapedo_dagster.engine.errors import TargetSourceError
from scrapedo_dagster.engine.storage.location import Location
from scrapedo_dagster.engine.storage.tables import PARTITION_COLUMN
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.text import join_limited

if TYPE_CHECKING:
    import pandas as pd

FileFormat: TypeAlias = Literal["csv", "parquet", "text"]


@dataclass(frozen=True)
class Columns:
    """The columns of a file or frame that hold the targets: of the URL, and of the key if there is one."""

    url: str
    key: str | None = None

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.url, self.key) if name is not None))


def read_targets(location: Location, file_format: FileFormat, columns: Columns, what: str) -> list[Target]:
    """All targets of a file, in its order; `what` is how messages call the file.

    Raises:
        TargetSourceError: there is no such file or column, it cannot be read, or has no targets, or empty cells.
    """
    reader = {"csv": _read_csv, "parquet": _read_parquet, "text": _read_text}[file_format]
    try:
        targets = reader(location, columns, what)
    except FileNotFoundError:
        raise TargetSourceError(f"{what} does not exist. Write it first, or correct `uri`.") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise TargetSourceError(f"{what} cannot be read as {file_format}: {error}") from error
    if not targets:
        raise TargetSourceError(f"{what} has no targets in it.")
    return targets


def _read_text(location: Location, columns: Columns, what: str) -> list[Target]:
    with (
        location.filesystem.open_input_stream(location.path, compression="detect") as stream,
        io.TextIOWrapper(stream, encoding="utf-8-sig") as lines,
    ):
        urls = (line.strip() for line in lines)
        return [Target(url) for url in urls if url and not url.startswith("#")]


def _read_csv(location: Location, columns: Columns, what: str) -> list[Target]:
    parse = csv.ParseOptions(newlines_in_values=True)
    # As text, and only an empty cell is none: a key may be 007, or NA.
    convert = csv.ConvertOptions(
        include_columns=columns.names,
        column_types={name: pa.string() for name in columns.names},
        strings_can_be_null=True,
        null_values=[""],
    )

    def opened(options: csv.ConvertOptions | None) -> csv.CSVStreamingReader:
        stream = location.filesystem.open_input_stream(location.path, compression="detect")
        return csv.open_csv(stream, parse_options=parse, convert_options=options)

    try:
        reader = opened(convert)
    except KeyError:
        with opened(None) as reader:
            raise _no_such_column(columns, reader.schema.names, what) from None
    with reader:
        return _targets_of(reader, columns, what)


def _read_parquet(location: Location, columns: Columns, what: str) -> list[Target]:
    with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
        _check_columns(columns, file.schema_arrow.names, what)
        return _targets_of(file.iter_batches(columns=columns.names), columns, what)


def targets_of_frame(frame: Any, columns: Columns, what: str, partition: str | None) -> list[Target]:
    """The targets of one pandas DataFrame or pyarrow Table.

    With a column `partition` it is data of several partitions, and only the rows of `partition` count, or all for None.

    Raises:
        TargetSourceError: it is neither, or has no such column, or empty cells, or no rows of this partition.
    """
    names = _names_of_frame(frame, what)
    _check_columns(columns, names, what)
    is_partitioned = partition is not None and PARTITION_COLUMN in names and PARTITION_COLUMN not in columns.names
    wanted = columns.names + ([PARTITION_COLUMN] if is_partitioned else [])
    table = _table_of(frame, wanted, what)
    if is_partitioned:
        keys = _as_text(table[PARTITION_COLUMN], PARTITION_COLUMN, what)
        table = table.filter(pc.equal(keys, partition))
        if not table.num_rows and len(keys):
            found = shortened(pc.unique(keys).to_pylist())
            raise TargetSourceError(
                f"{what} has a column {PARTITION_COLUMN!r}, which says what partition a row belongs to, and no row of "
                f"{partition!r}: it has {found}. Give both assets the same partitions, or rename the column if it "
                "means something else."
            )
    return _targets_of(table.to_batches(), columns, what)


def _is_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame or a pyarrow Table."""
    pandas = sys.modules.get("pandas")  # where it is not loaded, nothing is a DataFrame
    return isinstance(value, pa.Table) or (pandas is not None and isinstance(value, pandas.DataFrame))


def _names_of_frame(frame: Any, what: str) -> list[str]:
    if not _is_frame(frame):
        raise TargetSourceError(
            f"{what} is {type(frame).__module__}.{type(frame).__name__}; targets are taken from a pandas DataFrame or "
            "a pyarrow Table."
        )
    return list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)


def _table_of(frame: pa.Table | pd.DataFrame, names: list[str], what: str) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame.select(names)
    try:
        return pa.Table.from_pandas(frame[names], preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise TargetSourceError(f"{what} has values in its columns {names} that are no text: {error}") from error


def _targets_of(batches: Any, columns: Columns, what: str) -> list[Target]:
    targets: list[Target] = []
    row = 0
    empty: dict[str, list[int]] = {name: [] for name in columns.names}
    for batch in batches:
        values = {name: _as_text(batch.column(name), name, what).to_pylist() for name in columns.names}
        for name, cells in values.items():
            empty[name] += [row + index for index, cell in enumerate(cells, 1) if not cell]
        keys: Iterator[str | None] = iter([None] * batch.num_rows if columns.key is None else values[columns.key])
        targets += [Target(url, key) for url, key in zip(values[columns.url], keys, strict=True)]
        row += batch.num_rows
    if listed := [f"{name!r} in {shortened(rows)}" for name, rows in empty.items() if rows]:
        raise TargetSourceError(
            f"{what} has empty cells: column {' and '.join(listed)} (rows of data, from 1). Every target needs "
            "its URL, and its key where there is a column of keys."
        )
    return targets


def _as_text(values: pa.Array | pa.ChunkedArray, name: str, what: str) -> pa.Array | pa.ChunkedArray:
    try:
        return values.cast(pa.large_string())
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TargetSourceError(f"{what} has {values.type} in its column {name!r}, which is no text: {error}") from None


def _check_columns(columns: Columns, there: list[str], what: str) -> None:
    if any(name not in there for name in columns.names):
        raise _no_such_column(columns, there, what)
    if twice := [name for name in columns.names if there.count(name) > 1]:
        raise TargetSourceError(f"{what} has more than one column {twice[0]!r}: rename one of them.")


def _no_such_column(columns: Columns, there: list[str], what: str) -> TargetSourceError:
    missing = " and ".join(repr(name) for name in columns.names if name not in there)
    return TargetSourceError(f"{what} has no column {missing}. It has {shortened(there)}.")


def shortened(values: Sequence[Any]) -> str:
    """A list as a message tells it: the first ten of it."""
    return join_limited(value if isinstance(value, int) else repr(str(value)) for value in values)
