"""Reads targets from files: CSV, Parquet, or text with one URL per line."""

from __future__ import annotations

import io
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from scrapedo_dagster.engine.errors import TargetSourceError
from scrapedo_dagster.engine.storage.location import Location
from scrapedo_dagster.engine.targets.columns import TargetColumns
from scrapedo_dagster.engine.targets.target import Target

FileFormat: TypeAlias = Literal["csv", "parquet", "text"]

_DELIMITERS = (",", ";", "\t", "|")
_FIRST_BYTES_OF_UTF_16 = (0xFE, 0xFF)


def read_targets(
    location: Location, file_format: FileFormat, columns: TargetColumns, source: str, *, delimiter: str, encoding: str
) -> list[Target]:
    """Return the targets of a file, in its order. CSV and text may be compressed.

    Args:
        location: the file.
        file_format: its format.
        columns: the columns to read; text has none.
        source: what errors call the file.
        delimiter: the character between the cells of CSV.
        encoding: the encoding of CSV and text, as Python names it.

    Raises:
        TargetSourceError: the file does not exist, cannot be read, has no such column, no targets, or empty cells.
    """
    try:
        match file_format:
            case "csv":
                targets = _read_csv(location, columns, source, delimiter, encoding)
            case "parquet":
                targets = _read_parquet(location, columns, source)
            case "text":
                targets = _read_text(location, encoding)
    except FileNotFoundError:
        raise TargetSourceError(f"{source}: does not exist. Write it first, or correct `uri`.") from None
    except UnicodeError as error:
        raise TargetSourceError(f"{source}: is not {encoding}: {error}. {_encoding_hint(error)}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        hint = f" Check delimiter={delimiter!r} and encoding={encoding!r}." if file_format == "csv" else ""
        raise TargetSourceError(f"{source}: cannot be read as {file_format}: {error}.{hint}") from error
    if not targets:
        raise TargetSourceError(f"{source}: has no targets in it.")
    return targets


def _encoding_hint(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError) and error.object[:1] and error.object[0] in _FIRST_BYTES_OF_UTF_16:
        return "It begins as UTF-16 does: set encoding='utf-16'."
    return "Set `encoding` to that of the file, such as encoding='windows-1252'."


def _read_text(location: Location, encoding: str) -> list[Target]:
    with (
        location.filesystem.open_input_stream(location.path, compression="detect") as stream,
        io.TextIOWrapper(stream, encoding=encoding) as lines,
    ):
        urls = (line.removeprefix("\ufeff").strip() for line in lines)
        return [Target(url) for url in urls if url and not url.startswith("#")]


def _read_csv(location: Location, columns: TargetColumns, source: str, delimiter: str, encoding: str) -> list[Target]:
    # `pyarrow.dataset` refuses CSV with two columns of one name, such as the unnamed ones that Excel may append.
    def open_csv(convert: csv.ConvertOptions | None, *, skip_invalid: bool = False) -> csv.CSVStreamingReader:
        return csv.open_csv(
            location.filesystem.open_input_stream(location.path, compression="detect"),
            read_options=csv.ReadOptions(encoding=encoding),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                invalid_row_handler=(lambda _row: "skip") if skip_invalid else None,
            ),
            convert_options=convert,
        )

    with open_csv(None, skip_invalid=True) as reader:
        header = reader.schema.names
    is_one_other_column = len(header) == 1 and header[0] not in columns.names
    if is_one_other_column and (found := [each for each in _DELIMITERS if each in header[0]]):
        raise TargetSourceError(
            f"{source}: its header is {header[0]!r}, one column with delimiter={delimiter!r}. Set "
            f"delimiter={found[0]!r}."
        )
    columns.check(header, source)
    # As text, and only an empty cell is null: a key may be 007, or NA.
    convert = csv.ConvertOptions(
        include_columns=columns.names,
        column_types={name: pa.string() for name in columns.names},
        strings_can_be_null=True,
        null_values=[""],
    )
    with open_csv(convert) as reader:
        return columns.targets_of(reader, source)


def _read_parquet(location: Location, columns: TargetColumns, source: str) -> list[Target]:
    with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
        columns.check(file.schema_arrow.names, source)
        return columns.targets_of(file.iter_batches(columns=columns.names), source)
