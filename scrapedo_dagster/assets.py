"""The decorator `scrape_do_assets`: from a function that names targets to the three assets of a dataset."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

import dagster as dg

from scrapedo_dagster import metadata
from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.engine.bring_home import Homecoming, NothingSubmittedError, Progress
from scrapedo_dagster.engine.collect import Tables
from scrapedo_dagster.engine.ledger import Scope
from scrapedo_dagster.engine.schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.settle import Patience
from scrapedo_dagster.engine.submit import Limits, NotEnoughCreditsError, Submitter
from scrapedo_dagster.engine.summary import summarize
from scrapedo_dagster.engine.targets import InvalidTargetsError, Target, entries_of
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.termination import cancels_when_terminated

TargetsFunction: TypeAlias = Callable[[dg.AssetExecutionContext], Iterable[str | Target]]

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


@dataclass(frozen=True)
class _Settings:
    """How a dataset is scraped; see `scrape_do_assets`."""

    name: str
    options: ScrapeOptions
    job_deadline: timedelta
    on_invalid_target: Literal["raise", "skip"]
    max_credits: int | None
    max_open_jobs: int | None
    reuse_open_jobs: bool
    retry_failed_targets: int


def scrape_do_assets(
    *,
    name: str,
    partitions_def: dg.PartitionsDefinition | None = None,
    options: ScrapeOptions | None = None,
    job_deadline: timedelta = timedelta(hours=24),
    on_invalid_target: Literal["raise", "skip"] = "raise",
    max_credits: int | None = None,
    max_open_jobs: int | None = None,
    reuse_open_jobs: bool = True,
    retry_failed_targets: int = 0,
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

    Three assets come of it. `[name, "jobs"]` submits the targets: it is what costs credits. `[name, "tasks"]` (one row
    a target) and `[name, "contents"]` (one row a result) wait for the jobs, fetch what they brought and write Parquet.
    Every step can be repeated after any failure without paying again. Materialising `jobs` again once everything was
    collected is a new scrape, and paid.

    Args:
        name: the dataset's name: letters, digits and underscores. It is the first part of the asset keys, and the
            assets' group.
        partitions_def: any of Dagster's, or none.
        options: how the targets are scraped.
        job_deadline: how long collecting waits for the jobs to end. They go on; collect again later.
        on_invalid_target: `raise` submits nothing if any target is no http or https URL; `skip` submits the others,
            and the invalid ones become rows with the status `rejected`.
        max_credits: refuse to submit a partition that would cost more, by the price list.
        max_open_jobs: how many jobs of the account may be open at once; further ones wait their turn.
        reuse_open_jobs: continue jobs that were submitted for this partition and not collected, in place of new ones.
        retry_failed_targets: how often a target that failed is submitted again before its failure is its row.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise dg.DagsterInvalidDefinitionError(
            f"scrape_do_assets(name={name!r}): a dataset's name may have letters, digits and underscores only."
        )
    settings = _Settings(
        name=name,
        options=options or ScrapeOptions(),
        job_deadline=job_deadline,
        on_invalid_target=on_invalid_target,
        max_credits=max_credits,
        max_open_jobs=max_open_jobs,
        reuse_open_jobs=reuse_open_jobs,
        retry_failed_targets=retry_failed_targets,
    )

    def decorate(targets: TargetsFunction) -> ScrapeDoDataset:
        _check_signature(name, targets)
        jobs = _jobs_asset(settings, targets, partitions_def)
        results = _results_asset(settings, targets.__doc__, partitions_def)
        return ScrapeDoDataset(name, (jobs, results))

    return decorate


def _jobs_asset(
    settings: _Settings, targets: TargetsFunction, partitions_def: dg.PartitionsDefinition | None
) -> dg.AssetsDefinition:
    name = settings.name
    spec = dg.AssetSpec(
        [name, "jobs"],
        description=f"The targets of {name!r}, submitted to Scrape.do. This is what costs credits.",
        group_name=name,
        kinds={"scrapedo"},
    )

    @dg.multi_asset(name=f"{name}__jobs", specs=[spec], partitions_def=partitions_def)
    def jobs(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> dg.MaterializeResult[None]:
        with (
            cancels_when_terminated(context, scrape_do) as begun,
            _submitter(context, scrape_do, settings) as submitter,
        ):
            tables = _tables(name, scrape_do_parquet, _partition(context))
            try:
                entries = entries_of(targets(context), settings.on_invalid_target)
                generation = submitter.begin(
                    entries,
                    reuse_open_jobs=settings.reuse_open_jobs,
                    above=tables.newest_generation(),
                    unfinished=tables.unfinished_generation(),
                )
            except (InvalidTargetsError, NotEnoughCreditsError) as error:
                raise dg.Failure(str(error), allow_retries=False) from error  # no retry would mend it
            begun.add(submitter.scope)
            submissions = submitter.submit(generation.number)
            told = metadata.of_jobs(generation, submissions)
            context.log.info(f"{submitter.scope}: submitted {told['scrapedo/submitted']} targets.")
            return dg.MaterializeResult(asset_key=spec.key, metadata=told)

    return jobs


def _results_asset(
    settings: _Settings, description: str | None, partitions_def: dg.PartitionsDefinition | None
) -> dg.AssetsDefinition:
    name = settings.name
    about = f"{inspect.cleandoc(description)}\n\n" if description else ""
    tasks_spec, contents_spec = (
        dg.AssetSpec(
            [name, table],
            deps=[dg.AssetKey([name, "jobs"])],
            description=about + sentence,
            metadata={"dagster/column_schema": metadata.column_schema(schema)},
            group_name=name,
            kinds=_KINDS,
        ).with_io_manager_key(_IO_MANAGER_KEY)
        for table, schema, sentence in (
            ("tasks", TASKS_SCHEMA, "One row a target: what became of it, what it cost."),
            ("contents", CONTENTS_SCHEMA, "One row a result: the decoded content."),
        )
    )

    @dg.multi_asset(name=f"{name}__results", specs=[tasks_spec, contents_spec], partitions_def=partitions_def)
    def results(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
        partition = _partition(context)
        tables = _tables(name, scrape_do_parquet, partition)

        def log_progress(progress: Progress) -> None:
            context.log.info(
                f"{submitter.scope}: of {progress.targets} targets {progress.ended} have ended at Scrape.do, "
                f"{progress.written} are written."
            )

        with (
            cancels_when_terminated(context, scrape_do) as begun,
            _submitter(context, scrape_do, settings) as submitter,
        ):
            begun.add(submitter.scope)
            homecoming = Homecoming(
                submitter,
                scrape_do.async_client,
                tables,
                settings.job_deadline,
                retries=settings.retry_failed_targets,
                on_progress=log_progress,
            )
            try:
                homecoming.bring(submitter.ledger.generation(submitter.scope))
            except NothingSubmittedError as error:
                raise dg.Failure(str(error), allow_retries=False) from error
            summary = summarize(tables.tasks, partition)
            log = context.log.warning if summary.failures else context.log.info
            log(
                f"{submitter.scope}: {summary.succeeded} of {summary.targets} targets succeeded, "
                f"{summary.credits} credits."
            )
            return (
                dg.MaterializeResult(
                    asset_key=tasks_spec.key, metadata=metadata.of_tasks(tables.tasks, partition, summary)
                ),
                dg.MaterializeResult(
                    asset_key=contents_spec.key, metadata=metadata.of_contents(tables.contents, partition, summary)
                ),
            )

    return results


@contextmanager
def _submitter(
    context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, settings: _Settings
) -> Iterator[Submitter]:
    with scrape_do.client() as client:
        yield Submitter(
            ledger=scrape_do.ledger,
            client=client,
            scope=Scope(scrape_do.account, settings.name, _partition(context)),
            options=settings.options,
            run_id=context.run.root_run_id or context.run.run_id,
            log=context.log.warning,
            limits=Limits(max_credits=settings.max_credits, max_open_jobs=settings.max_open_jobs),
            patience=Patience.with_requests_of(scrape_do.request_timeout),
        )


def _tables(name: str, scrape_do_parquet: ScrapeDoParquetIOManager, partition: str | None) -> Tables:
    store = scrape_do_parquet.store
    return Tables(
        store.table([name, "tasks"], TASKS_SCHEMA), store.table([name, "contents"], CONTENTS_SCHEMA), partition
    )


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
