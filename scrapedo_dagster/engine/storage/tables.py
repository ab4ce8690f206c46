"""Where a dataset's tables live, and which of their files are the data.

```
{base}/{asset key}/partition={key}/part-{generation}-{index}.parquet      {base}/{asset key}/part-... when unpartitioned
                                   _generation.json
```
Parts are written one by one, each atomically, over hours and perhaps several runs. **The data of a partition are
exactly the parts named by its `_generation.json`**, which is written last and replaced atomically. So until a
generation is complete the previous one is what is read, and after a crash at any point either the old or the new one
is read, never a mixture. Older parts are removed only once a newer generation is complete.

Other tools (pandas, DuckDB, Spark, pyarrow) ignore names that begin with `_` or `.` and read all parts. They see the
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
    """One committed file. `bytes` is its size on disk."""

    generation: int
    index: int
    path: str
    bytes: int


@dataclass(frozen=True)
class CompleteGeneration:
    """What `_generation.json` says: the data of one partition. `bytes` is the size of its files."""

    partition: str | None
    generation: int
    indexes: tuple[int, ...]
    rows: int
    bytes: int


class ParquetTable:
    """One table of a dataset: a directory of partitions, or of parts when `partition` is None throughout."""

    def __init__(self, store: "ParquetStore", key_path: Sequence[str], schema: pa.Schema | None) -> None:
        if not key_path or not all(key_path):
            raise ValueError(f"a table needs a key of non-empty parts, not {list(key_path)!r}")
        self._store = store
        self._key_path = tuple(key_path)
        self._schema = schema

    def uri(self, partition: str | None) -> str:
        """Where a partition lives, for people and other tools: a path, or a URI without credentials and options."""
        return self._store.uri(self._relative(partition))

    @contextmanager
    def open_part(self, partition: str | None, generation: int, index: int) -> Iterator[PartWriter]:
        """Write one part, replacing it if it exists. It stands when the block has ended, or not at all if it raised."""
        if self._schema is None:
            raise ValueError(f"{self.name} was opened without a schema, which writing needs")
        remove_stale_temporaries(self._filesystem, self._directory(partition))
        with (
            atomic_file(self._filesystem, self._part_path(partition, generation, index)) as file,
            part_writer(file, self._schema) as writer,
        ):
            yield writer

    def parts(self, partition: str | None) -> list[Part]:
        """All committed parts, of every generation, complete or not, by generation and index."""
        selector = fs.FileSelector(self._directory(partition), allow_not_found=True)
        found = [
            Part(int(name[1]), int(name[2]), info.path, info.size)
            for info in self._filesystem.get_file_info(selector)
            if info.is_file and (name := _PART_NAME.fullmatch(info.base_name))
        ]
        return sorted(found, key=lambda part: (part.generation, part.index))

    def complete_generation(self, partition: str | None, generation: int, indexes: Iterable[int]) -> CompleteGeneration:
        """Make the parts `indexes` of `generation` the data of the partition, in location of what was read until now.

        Every part is opened to count its rows. May be repeated, with more parts too. Raises ParquetStoreError, and
        changes nothing, when a part is missing or broken or a newer generation is already complete.
        """
        wanted = tuple(sorted(set(indexes)))
        where = f"{self.name}, {partition_label(partition)}, in {self.uri(partition)}"
        what = f"cannot complete generation {generation} of {where}"
        sizes = {part.index: part.bytes for part in self.parts(partition) if part.generation == generation}
        if not wanted:
            raise ParquetStoreError(f"{what}: it has no parts; write an empty one if it has no rows")
        if absent := [index for index in wanted if index not in sizes]:
            raise ParquetStoreError(f"{what}: parts {absent} are missing; write them first")
        current = self.current_generation(partition)
        if current is not None and current.generation > generation:
            raise ParquetStoreError(
                f"{what}: generation {current.generation} is complete already; scrape again as one above it"
            )
        try:
            rows = sum(self._rows(self._part_path(partition, generation, index)) for index in wanted)
        except (OSError, pa.ArrowException) as error:
            raise ParquetStoreError(f"{what}: a part is no readable Parquet file; write it again: {error}") from error
        complete = CompleteGeneration(partition, generation, wanted, rows, sum(sizes[index] for index in wanted))
        with atomic_file(self._filesystem, self._marker_path(partition)) as file:
            file.write(json.dumps(asdict(complete), indent=1).encode())
        return complete

    def current_generation(self, partition: str | None) -> CompleteGeneration | None:
        """The generation that is the data of the partition, None while none has been completed."""
        try:
            with self._filesystem.open_input_stream(self._marker_path(partition)) as stream:
                found = json.loads(stream.read())
        except FileNotFoundError:
            return None
        complete = CompleteGeneration(**{**found, "indexes": tuple(found["indexes"])})
        if complete.partition != partition:
            raise ParquetStoreError(
                f"{self.uri(partition)} holds {partition_label(complete.partition)}, not {partition_label(partition)}: "
                "this disk does not tell upper from lower case; rename one of the two partitions"
            )
        return complete

    def remove_older_generations(self, partition: str | None, generation: int) -> None:
        """Remove parts older than `generation`, which must be complete; and what killed writers left."""
        current = self.current_generation(partition)
        if current is None or current.generation < generation:
            raise ParquetStoreError(
                f"cannot remove generations of {self.name}, {partition_label(partition)}, older than {generation} from "
                f"{self.uri(partition)}: that generation is not complete"
            )
        for part in self.parts(partition):
            if part.generation < generation:
                with suppress(FileNotFoundError):  # another worker is removing them too
                    self._filesystem.delete_file(part.path)
        remove_stale_temporaries(self._filesystem, self._directory(partition))

    def dataset(self, partitions: Sequence[str] | None) -> ds.Dataset:
        """The complete data of some partitions, lazily, with the column `partition`; None: of an unpartitioned table.

        Raises MissingPartitionsError if any has no complete data. A dataset that is read after its files were replaced
        by a newer generation raises FileNotFoundError: open it again.
        """
        keys: list[str | None] = [None] if partitions is None else list(dict.fromkeys(partitions))
        if not keys:
            raise ParquetStoreError(f"cannot read {self.name}: no partitions were asked for")
        # Reading a marker, listing and reading a schema are three round trips a partition on an object store.
        with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
            found = dict(zip(keys, pool.map(self._fragments, keys), strict=True))
            if missing := {key: reason for key, reason in found.items() if isinstance(reason, str)}:
                raise MissingPartitionsError(self.name, missing)
            fragments = [fragment for each in found.values() for fragment in each]
            # Releases may add columns: older partitions give null for them.
            schema = pa.unify_schemas(list(pool.map(lambda each: each[0].physical_schema, found.values())))
        if partitions is not None:
            schema = schema.append(pa.field(PARTITION_COLUMN, pa.string(), nullable=False))
        return ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat(), self._filesystem)

    def _fragments(self, partition: str | None) -> list[ds.ParquetFileFragment] | str:
        """The files of a partition, or why there are none."""
        complete = self.current_generation(partition)
        if complete is None:
            return f"nothing complete in {self.uri(partition)}"
        parts = {p.index: p.path for p in self.parts(partition) if p.generation == complete.generation}
        if lost := [index for index in complete.indexes if index not in parts]:
            return f"parts {lost} of generation {complete.generation} are gone from {self.uri(partition)}"
        key = None if partition is None else ds.field(PARTITION_COLUMN) == str(partition)
        file_format = ds.ParquetFileFormat()
        return [
            file_format.make_fragment(parts[index], self._filesystem, partition_expression=key)
            for index in complete.indexes
        ]

    @property
    def name(self) -> str:
        """The key of the table as people write it."""
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
    """All tables below one location, a `Location.uri`; nothing is touched before the first use."""

    base_uri: str

    def table(self, key_path: Sequence[str], schema: pa.Schema | None = None) -> ParquetTable:
        """The table of an asset. Writing needs the schema; reading takes it from the files."""
        return ParquetTable(self, key_path, schema)

    def uri(self, relative: str) -> str:
        """The location of a path below the base, without the base's credentials and options."""
        if self._base.is_path:
            return posixpath.join(self.root, relative)
        # The path of a URI is decoded once more by whoever opens it.
        return f"{self._base.shown}/{quote(relative, safe='/=!')}"

    @property
    def filesystem(self) -> fs.FileSystem:
        """Where the tables are."""
        return self._base.filesystem

    @property
    def root(self) -> str:
        """The base as a path of the filesystem."""
        return self._base.path

    @cached_property
    def _base(self) -> Location:
        return Location(self.base_uri)
