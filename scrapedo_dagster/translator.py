"""The specs of a dataset's three assets, and the translator that changes them."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from scrapedo_dagster.dataset_options import AssetAttributes
from scrapedo_dagster.engine.storage.table_columns import CONTENTS_COLUMNS, TASKS_COLUMNS, Column


@dataclass(frozen=True)
class ScrapeDoTable:
    """One of the assets of a dataset.

    Attributes:
        dataset: the dataset's name.
        table: which of the three assets it is.
        spec: its spec, if the translator changes nothing.
    """

    dataset: str
    table: Literal["jobs", "tasks", "contents"]
    spec: dg.AssetSpec


class ScrapeDoTranslator:
    """Changes asset specs. Pass an instance of a subclass to `scrape_do_assets`.

    ```python
    class InCapitals(ScrapeDoTranslator):
        def get_asset_spec(self, table):
            return super().get_asset_spec(table).replace_attributes(key=[table.dataset.upper(), table.table])
    ```

    The files of a table are stored under its asset key: renaming a table leaves its old files behind. Dependencies
    between the three assets follow the keys.
    """

    def get_asset_spec(self, table: ScrapeDoTable) -> dg.AssetSpec:
        """Return the spec of one of the assets of a dataset."""
        return table.spec


_RESULTS: tuple[tuple[Literal["tasks", "contents"], Sequence[Column], str], ...] = (
    ("tasks", TASKS_COLUMNS, "One row per target: its status and its cost."),
    ("contents", CONTENTS_COLUMNS, "One row per result: the decoded content."),
)


def table_specs(
    about: AssetAttributes,
    *,
    io_manager_key: str,
    key_prefix: Sequence[str] | str | None = None,
    translator: ScrapeDoTranslator | None = None,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    freshness_policy: dg.FreshnessPolicy | None = None,
) -> tuple[dg.AssetSpec, dg.AssetSpec, dg.AssetSpec]:
    """Return the specs of `jobs`, `tasks` and `contents`; the IO manager loads the last two."""
    prefix = [key_prefix] if isinstance(key_prefix, str) else list(key_prefix or [])
    description = f"{inspect.cleandoc(about.description)}\n\n" if about.description else ""

    def spec(
        table: Literal["jobs", "tasks", "contents"],
        sentence: str,
        *kinds: str,
        metadata: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dg.AssetSpec:
        made = dg.AssetSpec(
            [*prefix, about.name, table],
            description=description + sentence,
            group_name=about.group_name or about.name,
            owners=about.owners,
            tags=about.tags,
            code_version=about.code_version,
            metadata={**(about.metadata or {}), **(metadata or {})},
            kinds={"scrapedo", *kinds, *(about.kinds or ())},
            **more,
        )
        return (translator or ScrapeDoTranslator()).get_asset_spec(ScrapeDoTable(about.name, table, made))

    jobs = spec(
        "jobs",
        "What was submitted to Scrape.do. Materializing it costs credits.",
        automation_condition=automation_condition,
    )
    tasks, contents = (
        spec(
            table,
            sentence,
            "parquet",
            deps=[jobs.key],
            metadata={"dagster/column_schema": _column_schema(columns)},
            freshness_policy=freshness_policy,
        ).with_io_manager_key(io_manager_key)
        for table, columns, sentence in _RESULTS
    )
    return jobs, tasks, contents


def _column_schema(columns: Sequence[Column]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=each.name,
                type=each.type,
                description=each.description,
                constraints=dg.TableColumnConstraints(nullable=each.nullable),
            )
            for each in columns
        ]
    )
