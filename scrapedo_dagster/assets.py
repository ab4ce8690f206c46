"""From targets to the three assets of a dataset, and what belongs to them: `scrape_do_assets`."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

import dagster as dg
from typing_extensions import Unpack

from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.arguments import check_arguments, duration_of
from scrapedo_dagster.checks import build_checks
from scrapedo_dagster.dataset import Dataset, ScrapeDoDataset, check_name
from scrapedo_dagster.engine.targets.target import Target, validated_entries
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


def build_scrape_do_assets(
    *,
    name: str,
    targets: Targets,
    partitions_def: dg.PartitionsDefinition | None = None,
    options: ScrapeOptions | None = None,
    description: str | None = None,
    translator: ScrapeDoTranslator | None = None,
    key_prefix: Sequence[str] | str | None = None,
    group_name: str | None = None,
    owners: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    kinds: set[str] | None = None,
    pool: str | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    freshness_policy: dg.FreshnessPolicy | None = None,
    schedule: bool | str = False,
    min_success_ratio: float = 0.9,
    job_deadline: timedelta | float = timedelta(hours=24),
    on_invalid_target: Literal["raise", "skip"] = "raise",
    max_credits: int | None = None,
    max_open_jobs: int | None = None,
    reuse_open_jobs: bool = True,
    retry_failed_targets: int = 0,
) -> ScrapeDoDataset:
    """Make a dataset of targets. `scrape_do_assets` is the same as a decorator.

    Three assets come of it. `[name, "jobs"]` submits the targets, which is what costs credits, and ends in seconds.
    Once the jobs have ended, the completion sensor launches a run of `[name, "tasks"]` (one row a target) and
    `[name, "contents"]` (one row a result), which fetches what they brought and writes Parquet. Materialise all three
    at once, and that run waits for the jobs. Every step can be repeated after any failure without paying again.
    Materialising `jobs` again once everything was collected is a new scrape, and paid.

    Args:
        name: the dataset's name: letters, digits and underscores. It is the first part of the asset keys. Jobs, steps
            and the sensor are named after it, so that a code location has one dataset of a name, whatever its prefix.
        targets: what to scrape: a function of the context that returns the targets of `context.partition_key`, a list
            (or what can be listed, once, now), a file, or an upstream asset. Each target is a URL, or a `Target` with a
            key of yours.
        partitions_def: any of Dagster's, or none.
        options: how the targets are scraped.
        description: of the assets.
        translator: changes the keys and specs of the assets.
        key_prefix: comes before the name in the asset keys, and in the ledger. Change it when no jobs are open.
        group_name: of the assets; by default the name.
        owners: of the assets.
        tags: of the assets.
        kinds: of the assets, besides `scrapedo` and `parquet`.
        pool: of the steps. It limits steps that run at once, not jobs at Scrape.do: see `max_open_jobs`.
        backfill_policy: by default one run for all partitions, as `dg launch --partition-range` needs it.
        retry_policy: of the steps. In a run of several partitions, those that fail are not retried: the run names them,
            to be materialised again, and the others are green.
        automation_condition: of `jobs`. The sensor does the rest.
        freshness_policy: of `tasks` and `contents`.
        schedule: True submits each partition once its time window has ended; a cron expression submits all partitions
            that have no time window, or an unpartitioned dataset, at these times.
        min_success_ratio: a check warns when a smaller part of the targets succeeded, from 0 to 1.
        job_deadline: how long collecting waits for the jobs to end, a timedelta or seconds. They go on; collect again
            later.
        on_invalid_target: `raise` submits nothing if any target is no http or https URL; `skip` submits the others,
            and the invalid ones become rows with the status `rejected`.
        max_credits: refuse to submit a partition that would cost more, by the price list; a check warns when it did.
        max_open_jobs: how many jobs of the account may be open at once; further ones wait their turn, in the run.
        reuse_open_jobs: continue jobs that were submitted for this partition and not collected, in place of new ones.
            Otherwise they are canceled, but for those of the run itself and of the run that it repeats.
        retry_failed_targets: how often a target that failed is submitted again before its failure is its row.

    Raises:
        dg.DagsterInvalidDefinitionError: an argument is wrong.
    """
    check_name(name)
    if isinstance(options, Mapping):
        raise dg.DagsterInvalidDefinitionError(
            f"scrape_do_assets(name={name!r}): options must be ScrapeOptions: ScrapeOptions(**options)."
        )
    check_arguments(
        f"scrape_do_assets(name={name!r})",
        min_success_ratio=min_success_ratio,
        job_deadline=job_deadline,
        on_invalid_target=on_invalid_target,
        max_credits=max_credits,
        max_open_jobs=max_open_jobs,
        retry_failed_targets=retry_failed_targets,
    )
    targets = _checked_targets(f"scrape_do_assets(name={name!r})", targets, partitions_def, on_invalid_target)
    jobs_spec, tasks_spec, contents_spec = table_specs(
        name,
        key_prefix=key_prefix,
        description=description,
        translator=translator,
        kinds=kinds,
        automation_condition=automation_condition,
        freshness_policy=freshness_policy,
        group_name=group_name or name,
        owners=owners,
        tags=tags,
    )
    dataset = Dataset(
        name=name,
        jobs_key=jobs_spec.key,
        tasks_key=tasks_spec.key,
        contents_key=contents_spec.key,
        partitions_def=partitions_def,
        options=options or ScrapeOptions(),
        job_deadline=duration_of(job_deadline),
        on_invalid_target=on_invalid_target,
        max_credits=max_credits,
        max_open_jobs=max_open_jobs,
        reuse_open_jobs=reuse_open_jobs,
        retry_failed_targets=retry_failed_targets,
        min_success_ratio=min_success_ratio,
    )
    shared: dict[str, Any] = {
        "partitions_def": partitions_def,
        "backfill_policy": backfill_policy or (dg.BackfillPolicy.single_run() if partitions_def else None),
        "retry_policy": retry_policy,
        "pool": pool,
    }
    assets = (
        _jobs_asset(dataset, jobs_spec, targets, shared),
        results_asset(dataset, [tasks_spec, contents_spec], shared),
    )
    jobs = (
        dg.define_asset_job(
            dataset.submit_job_name,
            dg.AssetSelection.assets(dataset.jobs_key),
            description=f"Submit the targets of {name!r} to Scrape.do. The completion sensor brings the results.",
        ),
        collect_job(dataset),
    )
    return ScrapeDoDataset(
        dataset=dataset,
        assets=assets,
        asset_checks=build_checks(dataset),
        jobs=jobs,
        schedules=build_schedules(jobs[0], dataset, schedule),
        sensors=(dataset_sensor(dataset, jobs[1]),),
    )


class DatasetSettings(TypedDict, total=False):
    """The arguments of `build_scrape_do_assets` that the decorator takes as well, but for the first two."""

    options: ScrapeOptions | None
    description: str | None
    translator: ScrapeDoTranslator | None
    key_prefix: Sequence[str] | str | None
    group_name: str | None
    owners: Sequence[str] | None
    tags: Mapping[str, str] | None
    kinds: set[str] | None
    pool: str | None
    backfill_policy: dg.BackfillPolicy | None
    retry_policy: dg.RetryPolicy | None
    automation_condition: dg.AutomationCondition[Any] | None
    freshness_policy: dg.FreshnessPolicy | None
    schedule: bool | str
    min_success_ratio: float
    job_deadline: timedelta | float
    on_invalid_target: Literal["raise", "skip"]
    max_credits: int | None
    max_open_jobs: int | None
    reuse_open_jobs: bool
    retry_failed_targets: int


def scrape_do_assets(
    *, name: str, partitions_def: dg.PartitionsDefinition | None = None, **settings: Unpack[DatasetSettings]
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

    All arguments of `build_scrape_do_assets` can be given, but `targets`; the description is the function's docstring
    if none is given.
    """
    check_name(name)
    _check_settings(settings)

    def decorate(targets: TargetsFunction) -> ScrapeDoDataset:
        described: DatasetSettings = {**settings}
        described.setdefault("description", targets.__doc__)
        return build_scrape_do_assets(name=name, targets=targets, partitions_def=partitions_def, **described)

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


def _check_settings(settings: Mapping[str, Any]) -> None:
    known = list(DatasetSettings.__annotations__)
    for unknown in settings.keys() - known:
        near = get_close_matches(unknown, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"scrape_do_assets() got an unexpected keyword argument {unknown!r}{hint}")


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
