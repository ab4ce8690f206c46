"""A dataset for ad-hoc lists, with the job that scrapes one: `build_ad_hoc_dataset`."""

from typing import Any, Literal

import dagster as dg
from pydantic import Field, create_model

from scrapedo_dagster.assets import collect_job, results_asset
from scrapedo_dagster.checks import build_checks
from scrapedo_dagster.dataset import COLLECTS_TAG, Dataset, ScrapeDoDataset, ad_hoc_dataset
from scrapedo_dagster.dataset_options import AdHocArguments, CollectOptions, takes_fields_of, values_of
from scrapedo_dagster.execution.ad_hoc_options import collector_with_recorded_options
from scrapedo_dagster.ops import build_collect_op, build_submit_op
from scrapedo_dagster.ops_config import SubmitTargetsConfig
from scrapedo_dagster.sensors import dataset_sensor
from scrapedo_dagster.translator import table_specs

_DESCRIPTION = "Lists of targets that the op `submit_targets` submitted, each a partition."


@takes_fields_of(AdHocArguments)
def build_ad_hoc_dataset(arguments: AdHocArguments) -> ScrapeDoDataset:
    """Make a dataset of ad-hoc lists, and the job that scrapes one: give it targets in the Launchpad.

    The job submits a list, waits, and writes the results to Parquet as a dynamic partition of `[name, "tasks"]` and
    `[name, "contents"]`. The completion sensor launches `{name}_collect` for what a killed run of the job left, and for
    what the op `submit_targets` submits in your own graphs.

    Raises:
        dg.DagsterInvalidDefinitionError: an argument is invalid.
    """
    dataset = ad_hoc_dataset(arguments.name, **values_of(CollectOptions, arguments))
    description = arguments.description or _DESCRIPTION
    jobs_spec, *result_specs = table_specs(
        arguments.model_copy(update={"description": description}), io_manager_key=arguments.io_manager_key
    )
    collecting = collect_job(dataset)
    return ScrapeDoDataset(
        dataset=dataset,
        assets=(
            jobs_spec.replace_attributes(partitions_def=dataset.partitions_def),
            results_asset(dataset, result_specs, arguments, collector=collector_with_recorded_options),
        ),
        asset_checks=build_checks(dataset, arguments.op_tags),
        jobs=(_scrape_job(dataset, arguments), collecting),
        schedules=(),
        sensors=(dataset_sensor(dataset, collecting),),
    )


def _scrape_job(dataset: Dataset, arguments: AdHocArguments) -> dg.JobDefinition:
    only: Any = Literal[dataset.name]
    config_type = create_model(
        "ScrapeTargetsConfig",
        __base__=SubmitTargetsConfig,
        __doc__=SubmitTargetsConfig.__doc__,
        dataset=(only, Field(default=dataset.name, description="The dataset of this job.")),
    )
    submit, collect = build_submit_op(config_type, arguments), build_collect_op(arguments)

    @dg.job(
        name=arguments.job_name,
        description=f"Scrape a list of targets. It becomes a partition of {dataset.name!r}.",
        tags={COLLECTS_TAG: dataset.name},
        op_retry_policy=arguments.retry_policy,
        # Without it, the Launchpad starts with the config of all resources, with asterisks instead of their secrets.
        config={"ops": {submit.name: {"config": {"targets": []}}}},
    )
    def scrape() -> None:
        collect(submit())

    return scrape
