"""Loads what a scraping dataset has collected into the assets downstream of it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from scrapedo_dagster.engine.parquet import ParquetStore, ParquetStoreError


class ScrapeDoParquetIOManager(dg.ConfigurableIOManager):
    """Loads `tasks` and `contents` of a scraping dataset, one partition or many.

    The annotation of the downstream parameter chooses the form: `pandas.DataFrame` (also without annotation),
    `pyarrow.Table`, or `pyarrow.dataset.Dataset`, which reads no rows until it is asked. Partitioned data have the key
    of each row's partition as the column `partition`. Only complete partitions are loaded; a missing one fails the
    step.

    `base_uri` is a path or any filesystem URI that pyarrow knows (`s3://bucket/prefix`). A relative path starts at
    the current directory of the process that loads or collects, so give an absolute one when these may differ.

    Columns can be chosen, as with other table IO managers; contents are large:

        @dg.asset(ins={"pages": dg.AssetIn(["products", "contents"], metadata={"columns": ["url", "text"]})})
        def titles(pages: pd.DataFrame): ...
    """

    base_uri: str

    @property
    def store(self) -> ParquetStore:
        """Where the tables are, for the asset that writes them."""
        return ParquetStore(self.base_uri)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse: the assets of a dataset write their files themselves, while they collect."""
        raise dg.DagsterInvariantViolationError(
            f"ScrapeDoParquetIOManager was asked to store a value of {_output_name(context)}, but it only loads what "
            "scraping datasets have written themselves. Leave this asset on your default IO manager: take "
            "`io_manager_key` away from it."
        )

    def load_input(self, context: dg.InputContext) -> pd.DataFrame | pa.Table | ds.Dataset:
        """Load the partitions that the downstream step depends on, or the whole of an unpartitioned asset."""
        if not context.has_asset_key:
            raise dg.DagsterInvariantViolationError(
                f"ScrapeDoParquetIOManager cannot load the input {context.name!r}: it is not an asset"
            )
        convert = _converter(context)
        partitions = context.asset_partition_keys if context.has_asset_partitions else None
        table = self.store.table(context.asset_key.path)
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


ParquetResource: TypeAlias = dg.ResourceParam[ScrapeDoParquetIOManager]
"""How a step asks for it: an IO manager is no resource by its annotation alone."""


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


def _output_name(context: dg.OutputContext) -> str:
    if context.has_asset_key:
        return f"the asset {context.asset_key.to_user_string()!r}"
    return f"the output {context.name!r}"
