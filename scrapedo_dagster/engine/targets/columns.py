"""The columns of a table that hold targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from scrapedo_dagster.engine.errors import TargetSourceError
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.text import join_limited


@dataclass(frozen=True)
class TargetColumns:
    """Names of the column of URLs, and of the column of keys if there is one."""

    url: str
    key: str | None = None

    @property
    def names(self) -> list[str]:
        """The names, each once."""
        return list(dict.fromkeys(name for name in (self.url, self.key) if name is not None))

    def check(self, existing: list[str], source: str) -> None:
        """Raise TargetSourceError if a column is missing from `existing` names, or is there twice."""
        if missing := [repr(name) for name in self.names if name not in existing]:
            raise TargetSourceError(
                f"{source}: has no column {' and '.join(missing)}. It has {join_limited(map(repr, existing))}."
            )
        if twice := [name for name in self.names if existing.count(name) > 1]:
            raise TargetSourceError(f"{source}: has more than one column {twice[0]!r}. Rename one of them.")

    def targets_of(self, batches: Iterable[pa.RecordBatch], source: str) -> list[Target]:
        """Return the targets of Arrow batches, in their order. TargetSourceError names the rows with empty cells."""
        targets: list[Target] = []
        empty: dict[str, list[int]] = {name: [] for name in self.names}
        for batch in batches:
            cells = {name: as_text(batch.column(name), name, source).to_pylist() for name in self.names}
            for name, values in cells.items():
                empty[name] += [len(targets) + row for row, value in enumerate(values, 1) if not value]
            keys = [None] * batch.num_rows if self.key is None else cells[self.key]
            targets += [Target(url, key) for url, key in zip(cells[self.url], keys, strict=True)]
        if listed := [f"{name!r} in {join_limited(rows)}" for name, rows in empty.items() if rows]:
            raise TargetSourceError(
                f"{source}: has empty cells: column {' and '.join(listed)} (rows of data, from 1). Every target needs "
                "its URL, and its key if there is a column of keys."
            )
        return targets


def as_text(values: pa.Array | pa.ChunkedArray, name: str, source: str) -> pa.Array | pa.ChunkedArray:
    """Cast a column to text. Raises TargetSourceError if its type has no text."""
    try:
        return values.cast(pa.large_string())
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TargetSourceError(f"{source}: column {name!r} is {values.type}, not text: {error}") from None
