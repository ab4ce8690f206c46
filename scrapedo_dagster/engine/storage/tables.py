"""The Parquet tables of a dataset, and which of their files are the data.

```
{base}/{asset key}/partition={key}/part-{generation}-{index}.parquet      {base}/{asset key}/part-... when unpartitioned
                                   _generation.json
```
Parts are written one by one, each atomically, over hours and perhaps several runs. **The data of a partition are
exactly the parts listed in its `_generation.json`**, which is written last and replaced atomically. Until a generation
is complete, readers get the previous one; after a crash at any point they get the old or the new one, never a mixture.
Older parts are removed once a newer generation is complete.

Other tools (pandas, DuckDB, Spark, pyarrow) ignore names that start with `_` or `.` and read all parts. They see the
same data except between the first part of a new generation and the removal of the older one.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from scrapedo_dagster.engine.errors import MissingPartitionsError, ParquetStoreError
from scrapedo_dagster.engine.storage.atomic_files import atomic_file, remove_stale_temporaries, safe_name
from scrapedo_dagster.engine.storage.location import Location
from scrapedo_dagster.engine.storage.row_groups import PartWriter, part_writer
from scrapedo_dagster.text import partition_label

PARTITION_COLUMN = "partition"

_MARKER = "_generation.json"
_PART_NAME = re.compile(r"part-(\d{5,})-(\d{5,})\.parquet")
_CONCURRENT_READS = 16


@dataclass(frozen=True)
class Part:
    """A committed file. `bytes` is its size on disk."""

    generation: int
    index: int
    path: str
    bytes: int


@dataclass(frozen=True)
class CompleteGeneration:
    """The contents of `_generation.json`: the data of one partition. `bytes` is the size of its files."""

    partition: str | None
    generation: int
    indexes: tuple[int, ...]
    rows: int
    bytes: int


class ParquetTable:
    """A table of a dataset: a directory of partitions, or of parts if unpartitioned (`partition` is always None)."""

    def __init__(self, store: "ParquetStore", key_path: Sequence[str], schema: pa.Schema | None) -> None:
        if not key_path or not all(key_path):
            raise ValueError(f"a table needs a key of non-empty parts, not {list(key_path)!r}")
        self._store = store
        self._key_path = tuple(key_path)
        self._schema = schema

    def uri(self, partition: str | None) -> str:
        """Return the location of a partition for messages and other tools: a path, or a URI without credentials."""
        return self._store.uri(self._relative(partition))

    @contextmanager
    def open_part(self, partition: str | None, generation: int, index: int) -> Iterator[PartWriter]:
        """Open a part, which is committed when the block ends, unless it raises. An existing part is replaced."""
        if self._schema is None:
            raise ValueError(f"{self.name}: cannot write without a schema; pass one to `ParquetStore.table`")
        remove_stale_temporaries(self._filesystem, self._directory(partition))
        with (
            atomic_file(self._filesystem, self._part_path(partition, generation, index)) as file,
            part_writer(file, self._schema) as writer,
        ):
            yield writer

    def parts(self, partition: str | None) -> list[Part]:
        """Return the committed parts of all generations, complete or not, by generation and index."""
        selector = fs.FileSelector(self._directory(partition), allow_not_found=True)
        found = [
            Part(int(name[1]), int(name[2]), info.path, info.size)
            for info in self._filesystem.get_file_info(selector)
            if info.is_file and (name := _PART_NAME.fullmatch(info.base_name))
        ]
        return sorted(found, key=lambda part: (part.generation, part.index))

    def complete_generation(self, partition: str | None, generation: int, indexes: Iterable[int]) -> CompleteGeneration:
        """Make the parts `indexes` of `generation` the data of the partition, in place of the previous generation.

        Opens every part to count its rows. May be repeated, also with more parts.

        Raises:
            ParquetStoreError: a part is missing or broken, or a newer generation is complete. Nothing was changed.
        """
        wanted = tuple(sorted(set(indexes)))
        what = (
            f"{self.name}, {partition_label(partition)}, in {self.uri(partition)}: cannot complete generation "
            f"{generation}"
        )
        sizes = {part.index: part.bytes for part in self.parts(partition) if part.generation == generation}
        if not wanted:
            raise ParquetStoreError(f"{what} without parts; write an empty one if it has no rows")
        if absent := [index for index in wanted if index not in sizes]:
            raise ParquetStoreError(f"{what}: parts {absent} are missing; write them first")
        current = self.current_generation(partition)
        if current is not None and current.generation > generation:
            raise ParquetStoreError(
                f"{what}: generation {current.generation} is already complete; scrape again as a newer one"
            )
        try:
            rows = sum(self._rows(self._part_path(partition, generation, index)) for index in wanted)
        except (OSError, pa.ArrowException) as error:
            raise ParquetStoreError(f"{what}: a part is not readable Parquet; write it again: {error}") from error
        complete = CompleteGeneration(partition, generation, wanted, rows, sum(sizes[index] for index in wanted))
        with atomic_file(self._filesystem, self._marker_path(partition)) as file:
            file.write(json.dumps(asdict(complete), indent=1).encode())
        return complete

    def current_generation(self, partition: str | None) -> CompleteGeneration | None:
        """Return the generation that is the data of the partition, or None if none is complete."""
        try:
            with self._filesystem.open_input_stream(self._marker_path(partition)) as stream:
                found = json.loads(stream.read())
        except FileNotFoundError:
            return None
        complete = CompleteGeneration(**{**found, "indexes": tuple(found["indexes"])})
        if complete.partition != partition:
            raise ParquetStoreError(
                f"{self.uri(partition)} holds {partition_label(complete.partition)}, not {partition_label(partition)}: "
                "this disk ignores letter case; rename one of the two partitions"
            )
        return complete

    def remove_older_generations(self, partition: str | None, generation: int) -> None:
        """Remove parts older than `generation`, which must be complete, and temporary files of killed writers."""
        current = self.current_generation(partition)
        if current is None or current.generation < generation:
            raise ParquetStoreError(
                f"{self.name}, {partition_label(partition)}, in {self.uri(partition)}: cannot remove generations older "
                f"than {generation}: that generation is not complete"
            )
        for part in self.parts(partition):
            if part.generation < generation:
                with suppress(FileNotFoundError):  # another worker removes them too
                    self._filesystem.delete_file(part.path)
        remove_stale_temporaries(self._filesystem, self._directory(partition))

    def dataset(self, partitions: Sequence[str] | None) -> ds.Dataset:
        """Open the complete data of some partitions, with the column `partition`. None opens an unpartitioned table.

        Reading the dataset after its files were replaced by a newer generation raises FileNotFoundError: open it again.

        Raises:
            MissingPartitionsError: some partitions have no complete data.
        """
        keys: list[str | None] = [None] if partitions is None else list(dict.fromkeys(partitions))
        if not keys:
            raise ParquetStoreError(f"{self.name}: no partitions were named; name at least one")
        # Reading a marker, listing and reading a schema take three round trips per partition on an object store.
        with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
            found = dict(zip(keys, pool.map(self._fragments, keys), strict=True))
            if missing := {key: reason for key, reason in found.items() if isinstance(reason, str)}:
                raise MissingPartitionsError(self.name, missing)
            fragments = [fragment for each in found.values() for fragment in each]
            # Releases may add columns, which are null in older partitions.
            schema = pa.unify_schemas(list(pool.map(lambda each: each[0].physical_schema, found.values())))
        if partitions is not None:
            schema = schema.append(pa.field(PARTITION_COLUMN, pa.string(), nullable=False))
        return ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat(), self._filesystem)

    def _fragments(self, partition: str | None) -> list[ds.ParquetFileFragment] | str:
        """Return the files of a partition, or the reason why there are none."""
        complete = self.current_generation(partition)
        if complete is None:
            return f"no complete data in {self.uri(partition)}"
        parts = {p.index: p.path for p in self.parts(partition) if p.generation == complete.generation}
        if missing := [index for index in complete.indexes if index not in parts]:
            return f"parts {missing} of generation {complete.generation} are missing in {self.uri(partition)}"
        key = None if partition is None else ds.field(PARTITION_COLUMN) == str(partition)
        file_format = ds.ParquetFileFormat()
        return [
            file_format.make_fragment(parts[index], self._filesystem, partition_expression=key)
            for index in complete.indexes
        ]

    @property
    def name(self) -> str:
        """The key of the table, its parts joined by slashes."""
        return "/".join(self._key_path)

    @property
    def _filesystem(self) -> fs.FileSystem:
        return self._store.filesystem

    def _relative(self, partition: str | None) -> str:
        names = [safe_name(part) for part in self._key_path]
        if partition is not None:
            names.append(safe_name(partition, prefix=f"{PARTITION_COLUMN}="))
        return "/".join(names)

    def _directory(self, partition: str | None) -> str:
        return posixpath.join(self._store.root, self._relative(partition))

    def _part_path(self, partition: str | None, generation: int, index: int) -> str:
        return f"{self._directory(partition)}/part-{generation:05d}-{index:05d}.parquet"

    def _marker_path(self, partition: str | None) -> str:
        return f"{self._directory(partition)}/{_MARKER}"

    def _rows(self, path: str) -> int:
        return int(pq.read_metadata(path, filesystem=self._filesystem).num_rows)


@dataclass(frozen=True)
class ParquetStore:
    """The tables below one location (see `Location.uri`). Nothing is opened before the first use."""

    base_uri: str

    def table(self, key_path: Sequence[str], schema: pa.Schema | None = None) -> ParquetTable:
        """Return the table of an asset. Writing needs the schema; reading takes it from the files."""
        return ParquetTable(self, key_path, schema)

    def uri(self, relative: str) -> str:
        """Return the location of a path below the base, without credentials and options."""
        if self._base.is_path:
            return posixpath.join(self.root, relative)
        # Readers of a URI decode its path once more.
        return f"{self._base.shown}/{quote(relative, safe='/=!')}"

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem of the base."""
        return self._base.filesystem

    @property
    def root(self) -> str:
        """The path of the base on its filesystem."""
        return self._base.path

    @cached_property
    def _base(self) -> Location:
        return Location(self.base_uri)
