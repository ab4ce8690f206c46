"""Ops for ad-hoc lists of targets: `submit_targets` and `collect_targets`."""

from typing import Any

import dagster as dg

from scrapedo_dagster.dataset_options import AdHocArguments
from scrapedo_dagster.ops_config import SUBMIT_OP, ScrapeDoCollected, ScrapeDoHandle, SubmitTargetsConfig


def build_submit_op(config_type: type[SubmitTargetsConfig], arguments: AdHocArguments) -> dg.OpDefinition:
    """Build an op `submit_targets` with this config class, pool, tags and resource keys."""

    @dg.op(
        name=SUBMIT_OP,
        pool=arguments.pool,
        tags=arguments.op_tags,
        required_resource_keys=arguments.resource_keys,
        ins={"targets": dg.In(default_value=None, description="A list of URLs, or of `Target`s.")},
    )
    def submit(context: dg.OpExecutionContext, config: config_type, targets: Any) -> ScrapeDoHandle:  # type: ignore[valid-type]
        """Submit targets to Scrape.do, which costs credits, and end in seconds.

        The targets are an input from another op, or `targets` or `targets_file` of the config. They become a partition
        of a dataset.
        """
        from scrapedo_dagster.execution.ad_hoc_steps import submit_list  # only in the step: it loads the engine

        return submit_list(context, config, *arguments.resources_of(context), targets)

    return submit


def build_collect_op(arguments: AdHocArguments) -> dg.OpDefinition:
    """Build an op `collect_targets` with this deadline, pool, tags and resource keys."""

    @dg.op(
        name="collect_targets",
        pool=arguments.pool,
        tags=arguments.collecting_step_tags,
        required_resource_keys=arguments.resource_keys,
    )
    def collect(context: dg.OpExecutionContext, handle: ScrapeDoHandle) -> ScrapeDoCollected:
        """Wait until the jobs end, and write the results to Parquet: a partition of `tasks` and of `contents`."""
        from scrapedo_dagster.execution.ad_hoc_steps import collect_list

        return collect_list(context, *arguments.resources_of(context), handle, arguments.job_timeout)

    return collect


submit_targets = build_submit_op(SubmitTargetsConfig, AdHocArguments())
"""Op: submits targets from its input or its config (`SubmitTargetsConfig`), and returns a `ScrapeDoHandle`."""

collect_targets = build_collect_op(AdHocArguments())
"""Op: waits for the jobs of a `ScrapeDoHandle`, writes the results to Parquet, and returns a `ScrapeDoCollected`."""
