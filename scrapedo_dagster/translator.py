"""How a dataset's three assets are called and described: override it to change keys and specs."""

from dataclasses import dataclass
from typing import Literal

import dagster as dg


@dataclass(frozen=True)
class ScrapeDoTable:
    """One of the assets of a dataset.

    Attributes:
        dataset: the dataset's name.
        table: which of the three it is.
        spec: how it is called and described if the translator changes nothing.
    """

    dataset: str
    table: Literal["jobs", "tasks", "contents"]
    spec: dg.AssetSpec


class ScrapeDoTranslator:
    """Makes asset specs. Give an instance of a subclass to `scrape_do_assets`.

    ```python
    class InCapitals(ScrapeDoTranslator):
        def get_asset_spec(self, table):
            return super().get_asset_spec(table).replace_attributes(key=[table.dataset.upper(), table.table])
    ```

    The files of a table lie under its asset key: a table that is renamed leaves its old files behind. Dependencies
    between the three follow the keys by themselves.
    """

    def get_asset_spec(self, table: ScrapeDoTable) -> dg.AssetSpec:
        """The spec of one of the assets of a dataset."""
        return table.spec
