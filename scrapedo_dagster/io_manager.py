"""Loads what a scraping dataset has collected into the assets downstream of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    from scrapedo_dagster.engine.storage.tables import ParquetStore


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
        from scrapedo_dagster.engine.storage.tables import ParquetStore

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
        from scrapedo_dagster.execution.loading import load  # not before the step: it loads pandas and pyarrow

        return load(context, self.store)


ParquetResource: TypeAlias = dg.ResourceParam[ScrapeDoParquetIOManager]
"""How a step asks for it: an IO manager is no resource by its annotation alone."""


def _output_name(context: dg.OutputContext) -> str:
    if context.has_asset_key:
        return f"the asset {context.asset_key.to_user_string()!r}"
    return f"the output {context.name!r}"
