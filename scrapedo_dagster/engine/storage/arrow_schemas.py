"""The Arrow schemas of the tables `tasks` and `contents`, made from `columns.py`.

The metadata of each field has its description under the key `description`.
"""

from collections.abc import Sequence

import pyarrow as pa

from scrapedo_dagster.engine.storage.table_columns import CONTENTS_COLUMNS, TASKS_COLUMNS, Column

_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    "map<string, string>": pa.map_(pa.string(), pa.string()),
    "large_binary": pa.large_binary(),
    "large_string": pa.large_string(),
}


def _schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema(
        [pa.field(each.name, _TYPES[each.type], each.nullable, {"description": each.description}) for each in columns]
    )


TASKS_SCHEMA = _schema(TASKS_COLUMNS)
"""Schema of `tasks`: one row a target."""

CONTENTS_SCHEMA = _schema(CONTENTS_COLUMNS)
"""Schema of `contents`: one row a target that has content."""
