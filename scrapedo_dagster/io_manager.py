"""ScrapeDoParquetIOManager: loads the tables of a dataset into downstream assets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import dagster as dg
from pydantic import AfterValidator, ConfigDict, Field

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    from scrapedo_dagster.engine.storage.tables import ParquetStore


FILESYSTEMS = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "hf")
"""Schemes of the URIs that pyarrow supports, listed here because importing pyarrow is slow."""


def _check_scheme(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    if separator and scheme not in FILESYSTEMS and not scheme.startswith("fsspec+"):
        raise ValueError(f"pyarrow supports no filesystem {scheme}://. Give a path, or one of {', '.join(FILESYSTEMS)}")
    return uri


class ScrapeDoParquetIOManager(dg.ConfigurableIOManager):
    """Loads `tasks` and `contents` of a dataset into downstream assets, one partition or many.

    The annotation of the downstream parameter selects the type: `pandas.DataFrame` (the default), `pyarrow.Table`, or
    `pyarrow.dataset.Dataset`, which is lazy. Partitioned data have a column `partition` with the partition key of each
    row. Only complete partitions are loaded; a missing one fails the step and is named.

    The metadata of an input may select columns and allow missing partitions, which are then skipped with a warning:

        @dg.asset(
            ins={
                "pages": dg.AssetIn(
                    ["products", "contents"],
                    metadata={"columns": ["url", "text"], "allow_missing_partitions": True},
                )
            }
        )
        def titles(pages: pd.DataFrame): ...
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    base_uri: Annotated[str, AfterValidator(_check_scheme)] = Field(
        min_length=1,
        description=(
            "Where the tables are stored: a path, or a URI of a filesystem that pyarrow supports, such as "
            "s3://bucket/scraped. A relative path starts at the current directory of the process."
        ),
    )

    @property
    def store(self) -> ParquetStore:
        """The store of the tables, for the assets that write them."""
        from scrapedo_dagster.engine.storage.tables import ParquetStore

        return ParquetStore(self.base_uri)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Raise DagsterInvariantViolationError: the assets of a dataset write their own files."""
        name = f"asset {context.asset_key.to_user_string()!r}" if context.has_asset_key else f"output {context.name!r}"
        raise dg.DagsterInvariantViolationError(
            f"{name}: ScrapeDoParquetIOManager stores no values, it loads the tables of datasets. Remove "
            "`io_manager_key` to use the default IO manager."
        )

    def load_input(self, context: dg.InputContext) -> pd.DataFrame | pa.Table | ds.Dataset:
        """Load the partitions that the downstream step depends on, or an unpartitioned asset."""
        from scrapedo_dagster.execution.loading import load  # imports pandas and pyarrow

        return load(context, self.store)


ParquetResource: TypeAlias = dg.ResourceParam[ScrapeDoParquetIOManager]
"""Annotation of a step's parameter: Dagster does not inject an IO manager by its class alone."""
