"""The assets of a dataset: their specs, and the one that collects, which is the same wherever the targets come from."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.columns import CONTENTS_COLUMNS, TASKS_COLUMNS, Column
from scrapedo_dagster.io_manager import ParquetResource
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.translator import ScrapeDoTable, ScrapeDoTranslator

if TYPE_CHECKING:
    from scrapedo_dagster.steps import HomecomingOf

_IO_MANAGER_KEY = "scrape_do_parquet"
_RESULTS: tuple[tuple[Literal["tasks", "contents"], Sequence[Column], str], ...] = (
    ("tasks", TASKS_COLUMNS, "One row a target: what became of it, what it cost."),
    ("contents", CONTENTS_COLUMNS, "One row a result: the decoded content."),
)


def check_name(name: str) -> str:
    """The name itself, if a dataset can have it.

    Raises:
        dg.DagsterInvalidDefinitionError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise dg.DagsterInvalidDefinitionError(
            f"{name!r} cannot be the name of a dataset: it may have letters, digits and underscores only."
        )
    return name


def table_specs(
    name: str,
    *,
    key_prefix: Sequence[str] | str | None = None,
    description: str | None = None,
    translator: ScrapeDoTranslator | None = None,
    kinds: set[str] | None = None,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    freshness_policy: dg.FreshnessPolicy | None = None,
    **attributes: Any,
) -> tuple[dg.AssetSpec, dg.AssetSpec, dg.AssetSpec]:
    """The specs of `jobs`, `tasks` and `contents`. The latter two are loaded by `scrape_do_parquet`."""
    prefix = [key_prefix] if isinstance(key_prefix, str) else list(key_prefix or [])
    about = f"{inspect.cleandoc(description)}\n\n" if description else ""

    def spec(table: Literal["jobs", "tasks", "contents"], sentence: str, **more: Any) -> dg.AssetSpec:
        made = dg.AssetSpec([*prefix, name, table], description=about + sentence, **attributes, **more)
        return (translator or ScrapeDoTranslator()).get_asset_spec(ScrapeDoTable(name, table, made))

    jobs = spec(
        "jobs",
        "What was submitted to Scrape.do. Materialising it is what costs credits.",
        kinds={"scrapedo", *(kinds or ())},
        automation_condition=automation_condition,
    )
    tasks, contents = (
        spec(
            table,
            sentence,
            deps=[jobs.key],
            kinds={"scrapedo", "parquet", *(kinds or ())},
            metadata={"dagster/column_schema": _column_schema(columns)},
            freshness_policy=freshness_policy,
        ).with_io_manager_key(_IO_MANAGER_KEY)
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


def results_asset(
    dataset: Dataset,
    specs: Sequence[dg.AssetSpec],
    shared: Mapping[str, Any],
    homecoming: "HomecomingOf | None" = None,
) -> dg.AssetsDefinition:
    """The multi-asset with `tasks` and `contents`, which collects. `homecoming` is the usual one by default."""

    @dg.multi_asset(name=f"{dataset.name}__results", specs=specs, **shared)
    def results(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        # Not before the step: it loads pyarrow, SQLAlchemy and an HTTP client.
        from scrapedo_dagster.steps import collect_step
        from scrapedo_dagster.workplace import Workplace

        yield from collect_step(context, scrape_do, scrape_do_parquet, dataset, homecoming or Workplace.homecoming)

    return results


def collect_job(dataset: Dataset) -> Any:
    """The job that the completion sensor launches."""
    return dg.define_asset_job(
        dataset.collect_job_name,
        dg.AssetSelection.assets(dataset.tasks_key, dataset.contents_key),
        description=f"Bring home what Scrape.do has of {dataset.name!r}. The completion sensor launches it.",
    )
