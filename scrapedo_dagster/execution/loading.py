"""What `ScrapeDoParquetIOManager` loads, in the form that the input is annotated with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from scrapedo_dagster.engine.errors import ParquetStoreError
from scrapedo_dagster.engine.storage.tables import ParquetStore


def load(context: dg.InputContext, store: ParquetStore) -> pd.DataFrame | pa.Table | ds.Dataset:
    """The partitions that the input asks for, or the whole of an unpartitioned asset."""
    if not context.has_asset_key:
        raise dg.DagsterInvariantViolationError(
            f"ScrapeDoParquetIOManager cannot load the input {context.name!r}: it is not an asset"
        )
    convert = _converter(context)
    partitions = context.asset_partition_keys if context.has_asset_partitions else None
    table = store.table(context.asset_key.path)
    try:
        dataset = table.dataset(partitions)
    except ParquetStoreError as error:
        raise dg.Failure(
            f"{error}. Materialize the asset {context.asset_key.to_user_string()!r} there first, or look why "
            "that did not end well.",
            allow_retries=False,
        ) from error
    # Dagster can attach metadata of an input to one partition only.
    if partitions is None or len(partitions) == 1:
        partition = partitions[0] if partitions else None
        rows = "dagster/row_count" if partition is None else "dagster/partition_row_count"
        context.add_input_metadata({rows: dataset.count_rows(), "dagster/uri": table.uri(partition)})
    return convert(_chosen_columns(context, dataset))


def _chosen_columns(context: dg.InputContext, dataset: ds.Dataset) -> ds.Dataset:
    columns: Sequence[str] | None = context.definition_metadata.get("columns")
    if columns is None:
        return dataset
    if unknown := [name for name in columns if name not in dataset.schema.names]:
        raise dg.Failure(
            f"{context.asset_key.to_user_string()!r} has no columns {unknown}, which the input {context.name!r} asks "
            f"for; it has {dataset.schema.names}.",
            allow_retries=False,
        )
    return dataset.replace_schema(pa.schema([dataset.schema.field(name) for name in columns]))


def _to_pandas(dataset: ds.Dataset) -> pd.DataFrame:
    # NumPy has no null integers: a status code of 404 would come out as 404.0 beside a missing one.
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
    wanted = context.dagster_type.typing_type
    if wanted not in _CONVERTERS:
        raise dg.DagsterInvariantViolationError(
            f"ScrapeDoParquetIOManager cannot load {context.asset_key.to_user_string()!r} as {wanted}, which the input "
            f"{context.name!r} is annotated with. Annotate it as pandas.DataFrame, pyarrow.Table or "
            "pyarrow.dataset.Dataset."
        )
    return _CONVERTERS[wanted]
