"""All that ad-hoc lists need, ready-made: `build_scrape_targets`."""

from typing import Any, Literal

import dagster as dg
from pydantic import Field, create_model

from scrapedo_dagster.assets import ScrapeDoDataset
from scrapedo_dagster.checks import build_checks
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.ops import build_submit_op, collect_targets
from scrapedo_dagster.ops_config import SubmitTargetsConfig
from scrapedo_dagster.ops_orders import COLLECTS_TAG, ad_hoc_dataset, as_ordered
from scrapedo_dagster.table_assets import check_name, collect_job, results_asset, table_specs

_DESCRIPTION = "Lists of targets that were given to the op `submit_targets`, each a partition."


def build_scrape_targets(
    dataset: str = "ad_hoc", *, job_name: str = "scrape_targets", min_success_ratio: float = 0.9
) -> ScrapeDoDataset:
    """Make a dataset of ad-hoc lists, and the job that scrapes one: give it targets in the Launchpad.

    The job submits them, waits, and writes them to Parquet, as a dynamic partition of `[dataset, "tasks"]` and
    `[dataset, "contents"]`. What a run of it leaves behind when it is killed, and what the op `submit_targets` submits
    in graphs of yours, the completion sensor has collected by `{dataset}_collect`.

    Args:
        dataset: its name, and that of its `DynamicPartitionsDefinition`: letters, digits and underscores.
        job_name: of the job.
        min_success_ratio: a check warns when a smaller part of the targets succeeded, from 0 to 1.

    Raises:
        dg.DagsterInvalidDefinitionError: the name cannot be one.
    """
    made = ad_hoc_dataset(check_name(dataset), min_success_ratio=min_success_ratio)
    jobs_spec, *result_specs = table_specs(dataset, description=_DESCRIPTION, group_name=dataset)
    shared = {
        "partitions_def": made.partitions_def,
        "backfill_policy": dg.BackfillPolicy.single_run(),
    }
    return ScrapeDoDataset(
        dataset=made,
        assets=(
            jobs_spec.replace_attributes(partitions_def=made.partitions_def),
            results_asset(made, result_specs, shared, as_ordered),
        ),
        asset_checks=build_checks(made),
        jobs=(_scrape_job(made, job_name), collect_job(made)),
        schedules=(),
    )


def _scrape_job(dataset: Dataset, name: str) -> dg.JobDefinition:
    only: Any = Literal[dataset.name]
    config_type = create_model(
        "ScrapeTargetsConfig",
        __base__=SubmitTargetsConfig,
        __doc__=SubmitTargetsConfig.__doc__,
        dataset=(only, Field(default=dataset.name, description="The dataset of this job.")),
    )
    submit = build_submit_op(config_type)

    @dg.job(
        name=name,
        description=f"Scrape a list of targets. It becomes a partition of {dataset.name!r}.",
        tags={COLLECTS_TAG: dataset.name},
        # Without one, the Launchpad begins with the config of all resources, and asterisks in place of their secrets.
        config={"ops": {submit.name: {"config": {"targets": []}}}},
    )
    def scrape() -> None:
        collect_targets(submit())

    return scrape
