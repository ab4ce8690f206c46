"""Writes one Parquet file in row groups that are bounded by bytes, not by rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_BYTES = 16 * 1024 * 1024


class PartWriter:
    """Buffers at most a row group, 16 MB before compression. A larger single row is a row group of its own."""

    def __init__(self, parquet: pq.ParquetWriter, schema: pa.Schema) -> None:
        self.rows = 0
        self._parquet = parquet
        self._schema = schema
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0

    def write(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Append rows. Columns may be in any order; columns that the schema does not have are dropped.

        Raises:
            KeyError: a column is missing.
            ValueError: a column has a wrong type, or a null that the schema does not allow.
        """
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        table = table.select(self._schema.names).cast(self._schema)
        for piece in _split(table):
            if self._pending_bytes + piece.nbytes > ROW_GROUP_BYTES:
                self.flush()
            self._pending.append(piece)
            self._pending_bytes += piece.nbytes
        if table.nbytes > ROW_GROUP_BYTES:  # its last slice would keep the whole table in memory
            self.flush()
        self.rows += table.num_rows

    def flush(self) -> None:
        """Write the buffered rows as one row group."""
        if self.pending_rows:
            self._parquet.write_table(pa.concat_tables(self._pending), row_group_size=self.pending_rows)
        self._pending, self._pending_bytes = [], 0

    @property
    def pending_rows(self) -> int:
        """Rows that are buffered."""
        return sum(table.num_rows for table in self._pending)


@contextmanager
def part_writer(file: IO[bytes], schema: pa.Schema) -> Iterator[PartWriter]:
    """Open a writer of one Parquet file, which is complete when the block ends."""
    compact = [leaf for field in schema for leaf in _compact_leaves(field)]
    with pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=compact, write_statistics=compact
    ) as parquet:
        writer = PartWriter(parquet, schema)
        yield writer
        writer.flush()


def _compact_leaves(field: pa.Field) -> list[str]:
    """Return the Parquet columns of a field that get a dictionary and statistics: all but large content."""
    if pa.types.is_map(field.type):
        return [f"{field.name}.key_value.key", f"{field.name}.key_value.value"]
    is_large = pa.types.is_large_binary(field.type) or pa.types.is_large_string(field.type)
    return [] if is_large else [field.name]


def _split(table: pa.Table) -> Iterator[pa.Table]:
    """Yield slices of at most a row group, or of a single row."""
    if table.num_rows <= 1 or table.nbytes <= ROW_GROUP_BYTES:
        yield table
        return
    half = table.num_rows // 2
    yield from _split(table.slice(0, half))
    yield from _split(table.slice(half))
