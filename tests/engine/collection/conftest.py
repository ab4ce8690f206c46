"""What a test of collecting reads back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from scrapedo_dagster.engine.collection.partition_tables import PartitionTables


@pytest.fixture
def written(tables: PartitionTables) -> Callable[[int], list[dict[str, Any]]]:
    """The rows of `tasks` of a generation, each with its content as `content`; complete or not."""

    def written(generation: int) -> list[dict[str, Any]]:
        rows, contents = (
            [
                row
                for part in table.parts("mon")
                if part.generation == generation
                for row in pq.read_table(part.path).to_pylist()
            ]
            for table in (tables.tasks, tables.contents)
        )
        of = {row["url"]: row["content"] for row in contents}
        assert len(of) == len(contents)
        return sorted(({**row, "content": of.get(row["url"])} for row in rows), key=lambda row: row["position"])

    return written
