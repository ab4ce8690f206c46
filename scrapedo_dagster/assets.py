"""From targets to the three assets of a dataset, and what belongs to them: `scrape_do_assets`."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import dagster as dg
from pydantic import InstanceOf, SkipValidation

from scrapedo_dagster.checks import build_checks
from scrapedo_dagster.dataset import Dataset, ScrapeDoDataset
from scrapedo_dagster.dataset_options import AssetAttributes, DatasetOptions, takes_fields_of, values_of
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.io_manager import ParquetResource
from scrapedo_dagster.partitions.contexts import context_of
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.schedules import build_schedules
from scrapedo_dagster.sensors import dataset_sensor
from scrapedo_dagster.targets import TargetsAsset, TargetsFile, placeholders_of
from scrapedo_dagster.translator import ScrapeDoTranslator, table_specs

if TYPE_CHECKING:
    from scrapedo_dagster.execution.steps import CollectorFactory

TargetsFunction: TypeAlias = Callable[[dg.AssetExecutionContext], Iterable[str | Target]]
Targets: TypeAlias = TargetsFunction | Iterable[str | Target] | TargetsFile | TargetsAsset

_UPSTREAM = "upstream"  # the input that is the upstream asset


class _DecoratorArguments(DatasetOptions, AssetAttributes):
    partitions_def: dg.PartitionsDefinition | None = None
    """Any partitions definition of Dagster, or None."""
    translator: ScrapeDoTranslator | None = None
    """Changes the keys and specs of the assets."""
    key_prefix: Sequence[str] | str | None = None
    """Comes before the name in the asset keys, and in the ledger. Change it only while no jobs are open."""
    backfill_policy: InstanceOf[dg.BackfillPolicy] | None = None
    """Backfill policy of the assets; by default one run for all partitions, as `dg launch --partition-range` needs."""
    automation_condition: InstanceOf[dg.AutomationCondition[Any]] | None = None
    """Automation condition of `jobs`. The sensor does the rest."""
    freshness_policy: InstanceOf[dg.FreshnessPolicy] | None = None
    """Freshness policy of `tasks` and `contents`."""


class _BuilderArguments(_DecoratorArguments):
    targets: SkipValidation[Targets]
    """What to scrape: a function that returns the targets of `context.partition_key`; a list, or another iterable,
    which is read once, now; a `TargetsFile`; or a `TargetsAsset`. Each target is a URL, or a `Target` with your key."""


@takes_fields_of(_BuilderArguments)
def build_scrape_do_assets(arguments: _BuilderArguments) -> ScrapeDoDataset:
    """Make a dataset of targets; `scrape_do_assets` is the same as a decorator.

    A dataset is three assets. `[name, "jobs"]` submits the targets, which costs credits, and ends in seconds. Once the
    jobs have ended, the completion sensor launches a run of `[name, "tasks"]` (one row per target) and
    `[name, "contents"]` (one row per result), which fetches the results and writes them to Parquet. If you materialize
    all three at once, the run waits for the jobs. You can repeat every step after any failure without paying again.
    Materializing `jobs` once everything is collected is a new scrape, and paid.

    Raises:
        dg.DagsterInvalidDefinitionError: an argument is invalid.
    """
    name, partitions_def = arguments.name, arguments.partitions_def
    where = f"scrape_do_assets(name={name!r})"
    targets = _checked_targets(where, arguments.targets, partitions_def, arguments.on_invalid_target)
    jobs_spec, tasks_spec, contents_spec = table_specs(
        arguments,
        key_prefix=arguments.key_prefix,
        translator=arguments.translator,
        automation_condition=arguments.automation_condition,
        freshness_policy=arguments.freshness_policy,
    )
    dataset = Dataset(
        name=name,
        jobs_key=jobs_spec.key,
        tasks_key=tasks_spec.key,
        contents_key=contents_spec.key,
        partitions_def=partitions_def,
        **values_of(DatasetOptions, arguments),
    )
    shared: dict[str, Any] = {
        "partitions_def": partitions_def,
        "backfill_policy": arguments.backfill_policy or (dg.BackfillPolicy.single_run() if partitions_def else None),
        "retry_policy": arguments.retry_policy,
        "pool": arguments.pool,
    }
    assets = (
        _jobs_asset(dataset, jobs_spec, targets, shared),
        results_asset(dataset, [tasks_spec, contents_spec], shared),
    )
    jobs = (
        dg.define_asset_job(
            dataset.submit_job_name,
            dg.AssetSelection.assets(dataset.jobs_key),
            description=f"Submit the targets of {name!r} to Scrape.do. The completion sensor launches the collecting.",
        ),
        collect_job(dataset),
    )
    return ScrapeDoDataset(
        dataset=dataset,
        assets=assets,
        asset_checks=build_checks(dataset),
        jobs=jobs,
        schedules=build_schedules(jobs[0], dataset, arguments.schedule),
        sensors=(dataset_sensor(dataset, jobs[1]),),
    )


@takes_fields_of(_DecoratorArguments)
def scrape_do_assets(arguments: _DecoratorArguments) -> Callable[[TargetsFunction], ScrapeDoDataset]:
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

    It takes the arguments of `build_scrape_do_assets` except `targets`. The description is by default the docstring of
    the function.
    """

    def decorate(targets: TargetsFunction) -> ScrapeDoDataset:
        given = {name: getattr(arguments, name) for name in arguments.model_fields_set}
        return build_scrape_do_assets(**{"description": targets.__doc__, **given, "targets": targets})

    return decorate


def _jobs_asset(
    dataset: Dataset, spec: dg.AssetSpec, targets: Targets, shared: Mapping[str, Any]
) -> dg.AssetsDefinition:
    ins: dict[str, dg.AssetIn] = {}
    if isinstance(targets, TargetsAsset):
        ins[_UPSTREAM] = dg.AssetIn(targets.asset_key)
        spec = spec.replace_attributes(deps=[*spec.deps, targets.asset_key])

    @dg.multi_asset(name=f"{dataset.name}__jobs", specs=[spec], ins=ins, **shared)
    def jobs(
        context: dg.AssetExecutionContext,
        scrape_do: ScrapeDoResource,
        scrape_do_parquet: ParquetResource,
        **inputs: Any,
    ) -> Iterator[dg.MaterializeResult[None]]:
        from scrapedo_dagster.execution.steps import submit_step  # not before the step: it loads the whole engine

        if isinstance(targets, TargetsAsset):
            targets.check_partitions(context, _UPSTREAM)

        def targets_of(partition: str | None) -> Iterable[str | Target]:
            if isinstance(targets, TargetsAsset):
                return targets.of(inputs[_UPSTREAM], partition)
            if isinstance(targets, TargetsFile):
                return targets.read(partition)
            return targets(context_of(context, partition)) if callable(targets) else targets

        yield from submit_step(context, scrape_do, scrape_do_parquet, dataset, targets_of)

    return jobs


def _checked_targets(
    where: str,
    targets: Targets,
    partitions_def: dg.PartitionsDefinition | None,
    on_invalid_target: Literal["raise", "skip"],
) -> Targets:
    """The targets; a list is read here, since each run needs it."""
    if isinstance(targets, str):
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: targets is one text, {targets!r}. Give a list, or TargetsFile({targets!r}) if it names a file."
        )
    if callable(targets):
        _check_function(where, targets)
    elif isinstance(targets, TargetsFile):
        try:
            targets.check_placeholders(placeholders_of(partitions_def))
        except ValueError as error:
            raise dg.DagsterInvalidDefinitionError(f"{where}: targets: {error}") from None
    elif not isinstance(targets, TargetsAsset):
        if not isinstance(targets, Iterable):
            raise dg.DagsterInvalidDefinitionError(
                f"{where}: targets={targets!r} is neither a function nor a list, a TargetsFile or a TargetsAsset."
            )
        targets = tuple(targets)
        try:
            validated_entries(targets, on_invalid_target)
        except ValueError as error:
            raise dg.DagsterInvalidDefinitionError(f"{where}: targets: {error}") from None
    return targets


def _check_function(where: str, targets: TargetsFunction) -> None:
    if inspect.iscoroutinefunction(targets) or inspect.isasyncgenfunction(targets):
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: the function must not be `async def`: it is called, not awaited."
        )
    try:
        inspect.signature(targets).bind(None)
    except TypeError:
        raise dg.DagsterInvalidDefinitionError(
            f"{where}: the function must take exactly one argument, the context: `def targets(context): ...`"
        ) from None


def results_asset(
    dataset: Dataset,
    specs: Sequence[dg.AssetSpec],
    shared: Mapping[str, Any],
    collector: "CollectorFactory | None" = None,
) -> dg.AssetsDefinition:
    """The multi-asset with `tasks` and `contents`, which collects. `collector` is the usual one by default."""

    @dg.multi_asset(name=f"{dataset.name}__results", specs=specs, **shared)
    def results(
        context: dg.AssetExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        # Not before the step: it loads pyarrow, SQLAlchemy and an HTTP client.
        from scrapedo_dagster.execution.session import StepSession
        from scrapedo_dagster.execution.steps import collect_step

        yield from collect_step(context, scrape_do, scrape_do_parquet, dataset, collector or StepSession.collector)

    return results


def collect_job(dataset: Dataset) -> Any:
    """The job that the completion sensor launches."""
    return dg.define_asset_job(
        dataset.collect_job_name,
        dg.AssetSelection.assets(dataset.tasks_key, dataset.contents_key),
        description=f"Bring home what Scrape.do has of {dataset.name!r}. The completion sensor launches it.",
    )
