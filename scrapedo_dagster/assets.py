"""Datasets as Dagster assets: `scrape_do_assets` and `build_scrape_do_assets`."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

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

TargetsFunction: TypeAlias = Callable[..., Iterable[str | Target]]
Targets: TypeAlias = TargetsFunction | Iterable[str | Target] | TargetsFile | TargetsAsset

_UPSTREAM = "upstream"  # the input that is the upstream asset
_CONTEXT_NAMES = ("context", "_context", "context_", "_")  # Dagster's own


class DatasetArguments(DatasetOptions, AssetAttributes):
    """The arguments of a dataset that do not need Python: the YAML component takes them too."""

    partitions_def: dg.PartitionsDefinition | None = None
    """Any partitions definition of Dagster, or None."""
    deps: SkipValidation[Sequence[Any]] = ()
    """Upstream assets of `jobs` that the targets function does not load, as `deps` of any asset."""
    key_prefix: Sequence[str] | str | None = None
    """Comes before the name in the asset keys, and in the ledger. Change it only while no jobs are open."""
    backfill_policy: InstanceOf[dg.BackfillPolicy] | None = None
    """Backfill policy of the assets; by default one run for all partitions, as `dg launch --partition-range` needs."""
    automation_condition: InstanceOf[dg.AutomationCondition[Any]] | None = None
    """Automation condition of `jobs`. The sensor does the rest."""
    freshness_policy: InstanceOf[dg.FreshnessPolicy] | None = None
    """Freshness policy of `tasks` and `contents`."""


class _DecoratorArguments(DatasetArguments):
    translator: ScrapeDoTranslator | None = None
    """Changes the keys and specs of the assets."""
    ins: Mapping[str, InstanceOf[dg.AssetIn]] | None = None
    """Inputs of the targets function by the names of its parameters, as `ins` of any asset."""


class _BuilderArguments(_DecoratorArguments):
    targets: SkipValidation[Targets]
    """What to scrape: a function that returns the targets of `context.partition_key`, with resources and inputs as
    parameters like any asset; a list, or another iterable, which is read once, now; a `TargetsFile`; or a
    `TargetsAsset`. Each target is a URL, or a `Target` with your key."""


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
    targets = _checked_targets(arguments)
    jobs_spec, tasks_spec, contents_spec = table_specs(
        arguments,
        io_manager_key=arguments.io_manager_key,
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
    assets = (
        _jobs_asset(dataset, jobs_spec, targets, arguments),
        results_asset(dataset, [tasks_spec, contents_spec], arguments, arguments.backfill_policy),
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
        asset_checks=build_checks(dataset, arguments.op_tags),
        jobs=jobs,
        schedules=build_schedules(jobs[0], dataset, arguments.schedule, arguments.schedule_timezone),
        sensors=(dataset_sensor(dataset, jobs[1]),),
    )


@takes_fields_of(_DecoratorArguments)
def scrape_do_assets(arguments: _DecoratorArguments) -> Callable[[TargetsFunction], ScrapeDoDataset]:
    """Make a dataset of a function that returns the targets of `context.partition_key`.

    Like any asset, the function can take resources, inputs and config as parameters.

    ```python
    @scrape_do_assets(name="products", partitions_def=daily, options=ScrapeOptions(geo_code="us"))
    def products(context, shop: ShopDatabase) -> list[str]:
        return shop.product_urls(context.partition_key)

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
    dataset: Dataset, spec: dg.AssetSpec, targets: Targets, arguments: _BuilderArguments
) -> dg.AssetsDefinition:
    ins = dict(arguments.ins or {})
    if isinstance(targets, TargetsAsset):
        ins[_UPSTREAM] = dg.AssetIn(targets.asset_key)
        inputs, takes_context = [_parameter(_UPSTREAM, Any)], False
    else:
        inputs = _parameters_of(targets) if callable(targets) else []
        takes_context = bool(inputs) and (
            inputs[0].name in _CONTEXT_NAMES or inputs[0].annotation is dg.AssetExecutionContext
        )
        inputs = inputs[takes_context:]
    not_listing = dataset.resource_keys - {each.name for each in inputs}

    def jobs(context: dg.AssetExecutionContext, **given: Any) -> Iterator[dg.MaterializeResult[None]]:
        from scrapedo_dagster.execution.steps import submit_step  # only in the step: it loads the engine

        if isinstance(targets, TargetsAsset):
            targets.check_partitions(context, _UPSTREAM)

        def targets_of(partition: str | None) -> Iterable[str | Target]:
            if isinstance(targets, TargetsAsset):
                return targets.of(given[_UPSTREAM], partition)
            if isinstance(targets, TargetsFile):
                return targets.read(partition)
            if not callable(targets):
                return targets
            first = [context_of(context, partition)] if takes_context else []
            return targets(*first, **{name: value for name, value in given.items() if name not in not_listing})

        yield from submit_step(context, given[dataset.resource_key], given[dataset.io_manager_key], dataset, targets_of)

    # Dagster passes resources, inputs and config by the names and annotations of these parameters.
    parameters = [
        _parameter("context", dg.AssetExecutionContext),
        _parameter(dataset.resource_key, ScrapeDoResource),
        _parameter(dataset.io_manager_key, ParquetResource),
        *inputs,
    ]
    by_name = {each.name: each for each in parameters}  # the function may take the account, too
    vars(jobs)["__signature__"] = inspect.Signature(sorted(by_name.values(), key=lambda each: each.kind))
    # Outputs instead of `specs`: with these, Dagster would take no partition mapping or metadata in `ins`.
    output = dg.AssetOut.from_spec(spec.replace_attributes(deps=[]), dagster_type=dg.Nothing)
    return dg.multi_asset(
        name=f"{dataset.name}__jobs",
        outs={spec.key.to_python_identifier(): output},
        deps=[*spec.deps, *arguments.deps],
        ins=ins,
        op_tags=arguments.op_tags,
        **_step_settings(dataset, arguments, arguments.backfill_policy),
    )(jobs)


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)


def _parameters_of(function: TargetsFunction) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except NameError as error:
        raise dg.DagsterInvalidDefinitionError(
            f"the targets function {function!r} has an annotation that cannot be read: {error}. Dagster reads the "
            "annotations of parameters: import their types outside of `if TYPE_CHECKING`."
        ) from None


def _step_settings(
    dataset: Dataset, attributes: AssetAttributes, backfill_policy: dg.BackfillPolicy | None
) -> dict[str, Any]:
    return {
        "partitions_def": dataset.partitions_def,
        "backfill_policy": backfill_policy or (dg.BackfillPolicy.single_run() if dataset.partitions_def else None),
        "retry_policy": attributes.retry_policy,
        "pool": attributes.pool,
    }


def _checked_targets(arguments: _BuilderArguments) -> Targets:
    """Return the targets; a list is read here, since each run needs it.

    Raises:
        dg.DagsterInvalidDefinitionError: they are not targets, or some of a list are invalid.
    """
    where, targets = f"scrape_do_assets(name={arguments.name!r})", arguments.targets
    try:
        if isinstance(targets, str):
            raise ValueError(f"one text, {targets!r}. Give a list, or TargetsFile({targets!r}) if it names a file.")
        if inspect.iscoroutinefunction(targets) or inspect.isasyncgenfunction(targets):
            raise ValueError("the function must not be `async def`: it is called, not awaited.")
        if isinstance(targets, TargetsFile):
            targets.check_placeholders(placeholders_of(arguments.partitions_def))
        elif not callable(targets) and not isinstance(targets, TargetsAsset):
            if not isinstance(targets, Iterable):
                raise ValueError(f"{targets!r} is not a function, a list, a TargetsFile or a TargetsAsset.")
            targets = tuple(targets)
            validated_entries(targets, arguments.on_invalid_target)
    except ValueError as error:
        raise dg.DagsterInvalidDefinitionError(f"{where}: targets: {error}") from None
    return targets


def results_asset(
    dataset: Dataset,
    specs: Sequence[dg.AssetSpec],
    attributes: AssetAttributes,
    backfill_policy: dg.BackfillPolicy | None = None,
    collector: "CollectorFactory | None" = None,
) -> dg.AssetsDefinition:
    """Build the collecting multi-asset, `tasks` and `contents`. By default it uses `StepSession.collector`."""

    @dg.multi_asset(
        name=f"{dataset.name}__results",
        specs=specs,
        op_tags=attributes.collecting_step_tags,
        required_resource_keys=dataset.resource_keys,
        **_step_settings(dataset, attributes, backfill_policy),
    )
    def results(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        # Only in the step: they load pyarrow, SQLAlchemy and an HTTP client.
        from scrapedo_dagster.execution.session import StepSession
        from scrapedo_dagster.execution.steps import collect_step

        yield from collect_step(context, *dataset.resources_of(context), dataset, collector or StepSession.collector)

    return results


def collect_job(dataset: Dataset) -> Any:
    """Build the job that the completion sensor launches."""
    return dg.define_asset_job(
        dataset.collect_job_name,
        dg.AssetSelection.assets(dataset.tasks_key, dataset.contents_key),
        description=f"Collect the results of {dataset.name!r} from Scrape.do. The completion sensor launches it.",
    )
