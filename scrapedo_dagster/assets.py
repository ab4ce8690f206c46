"""The decorator `scrape_do_assets`: from a function that names targets to the three assets of a dataset."""

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import dagster as dg

from scrapedo_dagster import metadata
from scrapedo_dagster.api import ScrapeOptions, SubmissionUncertainError
from scrapedo_dagster.engine.collect import Progress, Tables, collect
from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, JOBS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.submit import InvalidTargetsError, checked_targets, recorded_submissions, submit
from scrapedo_dagster.engine.summary import summarize
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource

TargetsFunction: TypeAlias = Callable[[dg.AssetExecutionContext], Iterable[str]]

# An IO manager is no resource by its annotation alone.
ParquetResource: TypeAlias = dg.ResourceParam[ScrapeDoParquetIOManager]

_IO_MANAGER_KEY = "scrape_do_parquet"
_KINDS = {"scrapedo", "parquet"}


@dataclass(frozen=True)
class ScrapeDoDataset:
    """A dataset: its assets, ready to be merged into your definitions.

    Attributes:
        name: the first part of the asset keys.
        assets: `[name, "jobs"]`, and one multi-asset with `[name, "tasks"]` and `[name, "contents"]`.
    """

    name: str
    assets: tuple[dg.AssetsDefinition, ...]

    @property
    def defs(self) -> dg.Definitions:
        """Definitions with the assets. They need the resources `scrape_do` and `scrape_do_parquet`."""
        return dg.Definitions(assets=self.assets)


def scrape_do_assets(
    *,
    name: str,
    partitions_def: dg.PartitionsDefinition | None = None,
    options: ScrapeOptions | None = None,
    job_timeout: timedelta = timedelta(hours=24),
) -> Callable[[TargetsFunction], ScrapeDoDataset]:
    """Make a dataset of a function that returns the targets of `context.partition_key`.

    ```python
    @scrape_do_assets(name="products", partitions_def=daily, options=ScrapeOptions(geo_code="us"))
    def products(context) -> list[str]:
        return [f"https://example.com/{context.partition_key}/products/{i}" for i in range(100)]

    defs = dg.Definitions.merge(products.defs, dg.Definitions(resources={
        "scrape_do": ScrapeDoResource(api_token=dg.EnvVar("SCRAPE_DO_API_KEY")),
        "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri="s3://bucket/scraped"),
    }))
    ```

    Three assets come of it. `[name, "jobs"]` submits the targets; materialising it is what costs credits, each time.
    `[name, "tasks"]` (one row a target) and `[name, "contents"]` (one row a result) wait for the jobs, fetch what they
    brought and write Parquet; they can be materialised again without paying again.

    Args:
        name: the dataset's name: letters, digits and underscores. It is the first part of the asset keys, and the
            assets' group.
        partitions_def: any of Dagster's, or none.
        options: how the targets are scraped.
        job_timeout: how long collecting waits for a job to end. The job goes on; collect again later.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise dg.DagsterInvalidDefinitionError(
            f"scrape_do_assets(name={name!r}): a dataset's name may have letters, digits and underscores only."
        )

    def decorate(targets: TargetsFunction) -> ScrapeDoDataset:
        _check_signature(name, targets)
        jobs = _jobs_asset(name, targets, options or ScrapeOptions(), partitions_def)
        results = _results_asset(name, targets.__doc__, job_timeout, partitions_def)
        return ScrapeDoDataset(name, (jobs, results))

    return decorate


def _jobs_asset(
    name: str, targets: TargetsFunction, options: ScrapeOptions, partitions_def: dg.PartitionsDefinition | None
) -> dg.AssetsDefinition:
    key = [name, "jobs"]
    spec = dg.AssetSpec(
        key,
        description=f"The targets of {name!r}, submitted to Scrape.do. Materialising this costs credits, each time.",
        metadata={"dagster/column_schema": metadata.column_schema(JOBS_SCHEMA)},
        group_name=name,
        kinds=_KINDS,
    )

    @dg.multi_asset(
        name=f"{name}__jobs", specs=[spec.with_io_manager_key(_IO_MANAGER_KEY)], partitions_def=partitions_def
    )
    def jobs(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> dg.MaterializeResult[None]:
        partition = _partition(context)
        store = scrape_do_parquet.store
        table = store.table(key, JOBS_SCHEMA)
        others = [store.table([name, other]) for other in ("tasks", "contents")]
        try:
            listed = checked_targets(targets(context))
            with scrape_do.client() as client:
                submissions = submit(client, table, partition, listed, options, others=others)
        except (InvalidTargetsError, SubmissionUncertainError) as error:
            # A retry would not make targets valid; and after an uncertain submission it could pay twice.
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info(f"{name!r}: submitted {len(listed)} targets, as {len(submissions)} Scrape.do jobs.")
        return dg.MaterializeResult(asset_key=key, metadata=metadata.of_jobs(table, partition, submissions))

    return jobs


def _results_asset(
    name: str, description: str | None, job_timeout: timedelta, partitions_def: dg.PartitionsDefinition | None
) -> dg.AssetsDefinition:
    jobs_key, tasks_key, contents_key = [name, "jobs"], [name, "tasks"], [name, "contents"]
    about = f"{inspect.cleandoc(description)}\n\n" if description else ""
    specs = [
        dg.AssetSpec(
            key,
            deps=[dg.AssetKey(jobs_key)],
            description=about + sentence,
            metadata={"dagster/column_schema": metadata.column_schema(schema)},
            group_name=name,
            kinds=_KINDS,
        ).with_io_manager_key(_IO_MANAGER_KEY)
        for key, schema, sentence in (
            (tasks_key, TASKS_SCHEMA, "One row a target: what became of it, what it cost."),
            (contents_key, CONTENTS_SCHEMA, "One row a result: the decoded content."),
        )
    ]

    @dg.multi_asset(name=f"{name}__results", specs=specs, partitions_def=partitions_def)
    def results(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
        partition = _partition(context)
        store = scrape_do_parquet.store
        tables = Tables(store.table(tasks_key, TASKS_SCHEMA), store.table(contents_key, CONTENTS_SCHEMA), partition)
        generation, submissions = recorded_submissions(store.table(jobs_key), partition)

        def log_progress(progress: Progress) -> None:
            context.log.info(
                f"{name!r}: of {progress.targets} targets {progress.ended} have ended at Scrape.do, "
                f"{progress.written} are written."
            )

        async def bring_home() -> None:
            async with scrape_do.async_client() as client:
                await collect(
                    client, tables, generation, submissions, job_timeout=job_timeout, on_progress=log_progress
                )

        asyncio.run(bring_home())
        summary = summarize(tables.tasks, partition)
        log = context.log.warning if summary.failures else context.log.info
        log(f"{name!r}: {summary.succeeded} of {summary.targets} targets succeeded, {summary.credits} credits.")
        return (
            dg.MaterializeResult(asset_key=tasks_key, metadata=metadata.of_tasks(tables.tasks, partition, summary)),
            dg.MaterializeResult(
                asset_key=contents_key, metadata=metadata.of_contents(tables.contents, partition, summary)
            ),
        )

    return results


def _partition(context: dg.AssetExecutionContext) -> str | None:
    return str(context.partition_key) if context.has_partition_key else None


def _check_signature(name: str, targets: TargetsFunction) -> None:
    try:
        inspect.signature(targets).bind(None)
    except TypeError:
        raise dg.DagsterInvalidDefinitionError(
            f"scrape_do_assets(name={name!r}): the function must take exactly one argument, the context: "
            "`def targets(context): ...`"
        ) from None
