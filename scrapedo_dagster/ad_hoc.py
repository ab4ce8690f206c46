"""All that ad-hoc lists need, ready-made: `build_scrape_targets`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import dagster as dg
from pydantic import Field, create_model

from scrapedo_dagster.arguments import check_arguments, duration_of
from scrapedo_dagster.assets import collect_job, results_asset
from scrapedo_dagster.checks import build_checks
from scrapedo_dagster.dataset import COLLECTS_TAG, Dataset, ScrapeDoDataset, ad_hoc_dataset, check_name
from scrapedo_dagster.execution.ad_hoc_options import collector_with_recorded_options
from scrapedo_dagster.ops import build_collect_op, build_submit_op
from scrapedo_dagster.ops_config import SubmitTargetsConfig
from scrapedo_dagster.sensors import dataset_sensor
from scrapedo_dagster.translator import table_specs

_DESCRIPTION = "Lists of targets that were given to the op `submit_targets`, each a partition."


def build_scrape_targets(
    dataset: str = "ad_hoc",
    *,
    job_name: str = "scrape_targets",
    description: str | None = None,
    group_name: str | None = None,
    owners: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    kinds: set[str] | None = None,
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    min_success_ratio: float = 0.9,
    job_deadline: timedelta | float = timedelta(hours=24),
) -> ScrapeDoDataset:
    """Make a dataset of ad-hoc lists, and the job that scrapes one: give it targets in the Launchpad.

    The job submits them, waits, and writes them to Parquet, as a dynamic partition of `[dataset, "tasks"]` and
    `[dataset, "contents"]`. What a run of it leaves behind when it is killed, and what the op `submit_targets` submits
    in graphs of yours, the completion sensor has collected by `{dataset}_collect`.

    Args:
        dataset: its name, and that of its `DynamicPartitionsDefinition`: letters, digits and underscores.
        job_name: of the job.
        description: of the assets.
        group_name: of the assets; by default the dataset's name.
        owners: of the assets.
        tags: of the assets.
        kinds: of the assets, besides `scrapedo` and `parquet`.
        pool: of the steps, those of the job among them.
        retry_policy: of the steps, those of the job among them.
        min_success_ratio: a check warns when a smaller part of the targets succeeded, from 0 to 1.
        job_deadline: how long collecting waits for the jobs to end, a timedelta or seconds. They go on; collect again
            later.

    Raises:
        dg.DagsterInvalidDefinitionError: an argument is wrong.
    """
    check_name(dataset)
    check_arguments(
        f"build_scrape_targets({dataset!r})", min_success_ratio=min_success_ratio, job_deadline=job_deadline
    )
    made = ad_hoc_dataset(dataset, job_deadline=duration_of(job_deadline), min_success_ratio=min_success_ratio)
    jobs_spec, *result_specs = table_specs(
        dataset,
        description=description or _DESCRIPTION,
        kinds=kinds,
        group_name=group_name or dataset,
        owners=owners,
        tags=tags,
    )
    shared = {
        "partitions_def": made.partitions_def,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "retry_policy": retry_policy,
        "pool": pool,
    }
    collecting = collect_job(made)
    return ScrapeDoDataset(
        dataset=made,
        assets=(
            jobs_spec.replace_attributes(partitions_def=made.partitions_def),
            results_asset(made, result_specs, shared, collector_with_recorded_options),
        ),
        asset_checks=build_checks(made),
        jobs=(_scrape_job(made, job_name, pool, retry_policy), collecting),
        schedules=(),
        sensors=(dataset_sensor(made, collecting),),
    )


def _scrape_job(dataset: Dataset, name: str, pool: str | None, retry_policy: dg.RetryPolicy | None) -> dg.JobDefinition:
    only: Any = Literal[dataset.name]
    config_type = create_model(
        "ScrapeTargetsConfig",
        __base__=SubmitTargetsConfig,
        __doc__=SubmitTargetsConfig.__doc__,
        dataset=(only, Field(default=dataset.name, description="The dataset of this job.")),
    )
    submit, collect = build_submit_op(config_type, pool), build_collect_op(dataset.job_deadline, pool)

    @dg.job(
        name=name,
        description=f"Scrape a list of targets. It becomes a partition of {dataset.name!r}.",
        tags={COLLECTS_TAG: dataset.name},
        op_retry_policy=retry_policy,
        # Without one, the Launchpad begins with the config of all resources, and asterisks in place of their secrets.
        config={"ops": {submit.name: {"config": {"targets": []}}}},
    )
    def scrape() -> None:
        collect(submit())

    return scrape
