"""Takes targets from a table in memory: a pandas DataFrame or a pyarrow Table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scrapedo_dagster.engine.errors import TargetSourceError
from scrapedo_dagster.engine.storage.tables import PARTITION_COLUMN
from scrapedo_dagster.engine.targets.columns import TargetColumns, as_text
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.text import join_limited

if TYPE_CHECKING:
    import pandas as pd


def targets_of_frame(frame: Any, columns: TargetColumns, source: str, partition: str | None) -> list[Target]:
    """Return the targets of a pandas DataFrame or a pyarrow Table, in its order.

    A column `partition` has the partition key of each row. Only the rows of `partition` are returned, or all if it is
    None.

    Raises:
        TargetSourceError: `frame` is neither, or has no such column, empty cells, or no rows of this partition.
    """
    names = _column_names(frame, source)
    columns.check(names, source)
    is_partitioned = partition is not None and PARTITION_COLUMN in names and PARTITION_COLUMN not in columns.names
    table = _arrow_table(frame, columns.names + ([PARTITION_COLUMN] if is_partitioned else []), source)
    if is_partitioned:
        keys = as_text(table[PARTITION_COLUMN], PARTITION_COLUMN, source)
        table = table.filter(pc.equal(keys, partition))
        if not table.num_rows and len(keys):
            found = join_limited(map(repr, pc.unique(keys).to_pylist()))
            raise TargetSourceError(
                f"{source}: its column {PARTITION_COLUMN!r} has no row of {partition!r}, it has {found}. Give both "
                "assets the same partitions, or rename the column if it has another meaning."
            )
    return columns.targets_of(table.to_batches(), source)


def _column_names(frame: Any, source: str) -> list[str]:
    if isinstance(frame, pa.Table):
        return list(frame.column_names)
    pandas = sys.modules.get("pandas")  # if it is not imported, nothing is a DataFrame
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return list(frame.columns)
    raise TargetSourceError(
        f"{source}: is {type(frame).__module__}.{type(frame).__name__}, not a pandas DataFrame or a pyarrow Table."
    )


def _arrow_table(frame: pa.Table | pd.DataFrame, names: list[str], source: str) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame.select(names)
    try:
        return pa.Table.from_pandas(frame[names], preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise TargetSourceError(f"{source}: has values in its columns {names} that are not text: {error}") from error
