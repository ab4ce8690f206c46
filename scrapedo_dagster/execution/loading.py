"""Loads tables of a dataset in the type that the input is annotated with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from scrapedo_dagster.engine.errors import MissingPartitionsError, ParquetStoreError
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import PARTITION_COLUMN, ParquetStore, ParquetTable

_SCHEMAS = {"tasks": TASKS_SCHEMA, "contents": CONTENTS_SCHEMA}


def load(context: dg.InputContext, store: ParquetStore) -> pd.DataFrame | pa.Table | ds.Dataset:
    """Load the partitions of the input, or an unpartitioned asset.

    Raises:
        dg.Failure: data or columns are missing.
        dg.DagsterInvariantViolationError: the input is no asset, or its annotation is not supported.
    """
    if not context.has_asset_key:
        raise dg.DagsterInvariantViolationError(
            f"input {context.name!r}: it is not an asset, so ScrapeDoParquetIOManager cannot load it"
        )
    convert = _converter(context)
    partitions = context.asset_partition_keys if context.has_asset_partitions else None
    table = store.table(context.asset_key.path)
    try:
        dataset = _open(context, table, partitions)
    except ParquetStoreError as error:
        raise dg.Failure(
            f"{error}. Materialize the asset {context.asset_key.to_user_string()!r} first, or look up why it failed.",
            allow_retries=False,
        ) from error
    # Dagster can attach metadata of an input to one partition only.
    if partitions is None or len(partitions) == 1:
        partition = partitions[0] if partitions else None
        rows = "dagster/row_count" if partition is None else "dagster/partition_row_count"
        context.add_input_metadata({rows: dataset.count_rows(), "dagster/uri": table.uri(partition)})
    return convert(_select_columns(context, dataset))


def _open(context: dg.InputContext, table: ParquetTable, partitions: Sequence[str] | None) -> ds.Dataset:
    """Open the partitions, without the missing ones if the input's metadata allows it, as in UPathIOManager."""
    try:
        return table.dataset(partitions)
    except MissingPartitionsError as error:
        if partitions is None or not context.definition_metadata.get("allow_missing_partitions"):
            raise
        found = [key for key in partitions if key not in error.reasons]
        schema = _SCHEMAS.get(context.asset_key.path[-1])
        if not found and schema is None:
            raise  # a translator renamed the table, so its columns are unknown
        context.log.warning(f"{error}. Skipped, because the metadata of the input has allow_missing_partitions=True.")
        if found or schema is None:
            return table.dataset(found)
        return ds.dataset(schema.append(pa.field(PARTITION_COLUMN, pa.string(), nullable=False)).empty_table())


def _select_columns(context: dg.InputContext, dataset: ds.Dataset) -> ds.Dataset:
    columns: Sequence[str] | None = context.definition_metadata.get("columns")
    if columns is None:
        return dataset
    if unknown := [name for name in columns if name not in dataset.schema.names]:
        raise dg.Failure(
            f"input {context.name!r}: {context.asset_key.to_user_string()!r} has no columns {unknown}. It has "
            f"{dataset.schema.names}.",
            allow_retries=False,
        )
    return dataset.replace_schema(pa.schema([dataset.schema.field(name) for name in columns]))


def _to_pandas(dataset: ds.Dataset) -> pd.DataFrame:
    # NumPy has no null integers: a status code of 404 would become 404.0 beside a missing one.
    integers = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    frame: pd.DataFrame = dataset.to_table().to_pandas(types_mapper=integers.get, maps_as_pydicts="lossy")
    return frame


def _to_table(dataset: ds.Dataset) -> pa.Table:
    return dataset.to_table()


def _to_dataset(dataset: ds.Dataset) -> ds.Dataset:
    return dataset


_CONVERTERS: dict[Any, Callable[[ds.Dataset], Any]] = {
    Any: _to_pandas,
    pd.DataFrame: _to_pandas,
    pa.Table: _to_table,
    ds.Dataset: _to_dataset,
}


def _converter(context: dg.InputContext) -> Callable[[ds.Dataset], Any]:
    annotation = context.dagster_type.typing_type
    if annotation not in _CONVERTERS:
        raise dg.DagsterInvariantViolationError(
            f"input {context.name!r}: ScrapeDoParquetIOManager cannot load {context.asset_key.to_user_string()!r} as "
            f"{annotation}. Annotate the input as pandas.DataFrame, pyarrow.Table or pyarrow.dataset.Dataset."
        )
    return _CONVERTERS[annotation]
