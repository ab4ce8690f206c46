"""Sources of targets other than a function: a file, or an upstream asset."""

from __future__ import annotations

import re
from codecs import lookup
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import dagster as dg
import pydantic
from pydantic import ConfigDict, Field

from scrapedo_dagster.text import join_limited, partition_label

if TYPE_CHECKING:
    from scrapedo_dagster.engine.targets.columns import TargetColumns
    from scrapedo_dagster.engine.targets.readers import FileFormat
    from scrapedo_dagster.engine.targets.target import Target

_FORMATS: dict[str, FileFormat] = {".csv": "csv", ".parquet": "parquet", ".txt": "text"}
_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")
_COMPRESSIONS = (".gz", ".bz2", ".zst")  # pyarrow knows them by the name; Parquet compresses inside


@pydantic.dataclasses.dataclass(
    frozen=True, config=ConfigDict(use_attribute_docstrings=True, hide_input_in_errors=True)
)
class TargetsFile:
    """The targets of a partition, in a file: CSV, Parquet, or text with one URL per line.

    `TargetsFile("s3://bucket/urls/{partition_key}.csv", column="url", key_column="sku")`

    The suffix is the format: `.csv` (with a header), `.parquet`, or `.txt`, in which empty lines and those that begin
    with # are skipped. CSV and text may be compressed: `.csv.gz`, also `.bz2` and `.zst`. Columns are read as text.

    Raises:
        ValueError: no format has this suffix, or the format does not have an option that is set.
    """

    uri: str
    """A path, or a URI of a filesystem that pyarrow supports. `{partition_key}` is replaced by the partition's key, and
    in multi-partitions `{dimension}` by the key of that dimension."""
    column: str = "url"
    """Column of CSV and Parquet with the URLs."""
    key_column: str | None = None
    """Column of CSV and Parquet with your own keys, which become `target_key` in `tasks`."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Character between the cells of CSV, such as ; or a tab."""
    encoding: str = "utf-8"
    """Encoding of CSV and text, such as utf-16 or windows-1252."""

    def __post_init__(self) -> None:
        try:
            lookup(self.encoding)
        except LookupError:
            raise ValueError(f"encoding={self.encoding!r} is not known to Python") from None
        if self.uri.endswith("}"):
            return  # the suffix is in the partition's key
        file_format = _format_of(self.uri)
        unused = {"csv": (), "parquet": ("delimiter", "encoding"), "text": ("column", "key_column", "delimiter")}
        if given := [name for name in unused[file_format] if getattr(self, name) != getattr(TargetsFile, name)]:
            name = self.uri.rpartition("/")[2]  # there may be credentials before it
            raise ValueError(f"{name!r} is {file_format}, which has no {', '.join(given)}.")

    def check_placeholders(self, known: Collection[str]) -> None:
        """Raise if the URI has an unknown name in braces, which would only be a missing file at run time.

        Args:
            known: the `placeholders_of` the dataset.

        Raises:
            ValueError: a name is none of `known`.
        """
        unknown = [f"{{{name}}}" for name in _PLACEHOLDER.findall(self.uri) if name not in known]
        if unknown:
            there = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(
                f"{unknown[0]} is not a placeholder of this file: "
                + (f"there may be {there}" if known else "the dataset has no partitions")
            )

    def read(self, partition_key: str | None) -> list[Target]:
        """Read the targets of a partition, or of an unpartitioned dataset, in the order of the file.

        Raises:
            TargetSourceError: the file does not exist, cannot be read, has no such column, no targets, or empty cells.
        """
        from scrapedo_dagster.engine.errors import TargetSourceError
        from scrapedo_dagster.engine.storage.location import Location
        from scrapedo_dagster.engine.targets.readers import read_targets

        location = Location(self._filled(partition_key))
        source = f"targets file {location.shown!r}"
        if partition_key is not None:
            source += f", {partition_label(partition_key)}"
        try:
            file_format = _format_of(location.uri)
        except ValueError as error:
            raise TargetSourceError(f"{source}: {error}") from None
        return read_targets(
            location, file_format, _columns(self), source, delimiter=self.delimiter, encoding=self.encoding
        )

    def _filled(self, partition_key: str | None) -> str:
        if partition_key is None:
            return self.uri
        values = {"partition_key": str(partition_key)}
        if isinstance(partition_key, dg.MultiPartitionKey):
            values |= partition_key.keys_by_dimension
        if "://" in self.uri:  # the path of a URI is decoded when it is opened
            values = {name: quote(value, safe="/") for name, value in values.items()}
        # In one pass: a key may contain braces.
        names = "|".join(map(re.escape, values))
        return re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], self.uri)


FILE_FIELDS: dict[str, Any] = {
    each.name: (each.type, vars(TargetsFile)["__pydantic_fields__"][each.name]) for each in fields(TargetsFile)
}
"""Types and descriptions of the fields of TargetsFile, for its forms in YAML and in the Launchpad."""


@dataclass(frozen=True)
class TargetsAsset:
    """The targets of a partition, in an upstream asset: a pandas DataFrame or a pyarrow Table.

    `TargetsAsset("shop_urls", column="url", key_column="sku")`

    Attributes:
        key: key of the asset. It has the same partitions as the dataset, or none: then it has the targets of each.
        column: column with the URLs.
        key_column: column with your own keys, which become `target_key` in `tasks`.
    """

    key: dg.AssetKey | Sequence[str] | str
    column: str = "url"
    key_column: str | None = None

    @property
    def asset_key(self) -> dg.AssetKey:
        """The key as an `AssetKey`."""
        return dg.AssetKey.from_coercible(self.key)

    def check_partitions(self, context: dg.AssetExecutionContext, input_name: str) -> None:
        """Raise if the asset has other partitions than the dataset, such as days for weeks.

        For a week, Dagster loads seven frames, and it is not known which frame belongs to which week.

        Raises:
            TargetSourceError: the run loads other partitions of the asset than its own.
        """
        from scrapedo_dagster.engine.errors import TargetSourceError

        if context.assets_def.partitions_def is None:
            return  # all loaded partitions are targets
        try:
            context.asset_partitions_def_for_input(input_name)
        except dg.DagsterInvariantViolationError:
            return  # it has no partitions
        loaded, wanted = list(context.asset_partition_keys_for_input(input_name)), list(context.partition_keys)
        if set(loaded) != set(wanted):
            raise TargetSourceError(
                f"{self._name}: has other partitions than this dataset: {join_limited(map(repr, loaded))} for "
                f"{join_limited(map(repr, wanted))}. Give both the same partitions, or put an asset between them that "
                "has those of the dataset."
            )

    def of(self, value: Any, partition_key: str | None) -> list[Target]:
        """Return the targets of a partition, or all targets for an unpartitioned dataset, in the order of the frame.

        Args:
            value: what an IO manager loaded: a frame; a dict of frames by partition; or one frame of several partitions
                with their keys in a column `partition`.
            partition_key: partition of the dataset.

        Raises:
            TargetSourceError: the value is none of these, lacks the partition or the column, or has empty cells.
        """
        from scrapedo_dagster.engine.errors import TargetSourceError
        from scrapedo_dagster.engine.targets.frames import targets_of_frame

        if not isinstance(value, Mapping):
            return targets_of_frame(value, _columns(self), self._name, partition_key)
        if partition_key is not None and partition_key not in value:
            raise TargetSourceError(
                f"{self._name}: has no partition {str(partition_key)!r}, it has {join_limited(map(repr, value))}. Give "
                "both assets the same partitions."
            )
        chosen = value if partition_key is None else {partition_key: value[partition_key]}
        return [
            target
            for key, frame in chosen.items()
            for target in targets_of_frame(frame, _columns(self), f"{self._name}, {partition_label(key)}", None)
        ]

    @property
    def _name(self) -> str:
        return f"upstream asset {self.asset_key.to_user_string()!r}"


def placeholders_of(partitions_def: dg.PartitionsDefinition | None) -> list[str]:
    """Return the names in braces that are replaced in the URI of a `TargetsFile`."""
    if partitions_def is None:
        return []
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        return ["partition_key", *(each.name for each in partitions_def.partitions_defs)]
    return ["partition_key"]


def _columns(source: TargetsFile | TargetsAsset) -> TargetColumns:
    from scrapedo_dagster.engine.targets.columns import TargetColumns

    return TargetColumns(source.column, source.key_column)


def _format_of(uri: str) -> FileFormat:
    name = urlsplit(uri).path if "://" in uri else uri
    for compression in _COMPRESSIONS:
        if name.endswith(compression) and not name.endswith(f".parquet{compression}"):
            name = name.removesuffix(compression)
            break
    for suffix, file_format in _FORMATS.items():
        if name.endswith(suffix):
            return file_format
    raise ValueError(
        f"{name.rpartition('/')[2]!r} has no known suffix: a file of targets ends with {', '.join(_FORMATS)}, "
        f"or with .csv or .txt and one of {', '.join(_COMPRESSIONS)}."
    )
