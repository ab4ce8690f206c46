"""Ops for lists of targets that are no dataset of their own: `submit_targets` and `collect_targets`."""

from datetime import timedelta
from typing import Any

import dagster as dg

from scrapedo_dagster.io_manager import ParquetResource
from scrapedo_dagster.ops_config import SUBMIT_OP, ScrapeDoCollected, ScrapeDoHandle, SubmitTargetsConfig
from scrapedo_dagster.resource import ScrapeDoResource


def build_submit_op(config_type: type[SubmitTargetsConfig], pool: str | None = None) -> dg.OpDefinition:
    """The op `submit_targets`, with a config of its own."""

    @dg.op(
        name=SUBMIT_OP,
        pool=pool,
        ins={"targets": dg.In(default_value=None, description="A list of URLs, or of `Target`s.")},
    )
    def submit(
        context: dg.OpExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        scrape_do: ScrapeDoResource,
        scrape_do_parquet: ParquetResource,
        targets: Any,
    ) -> ScrapeDoHandle:
        """Submit targets to Scrape.do, which is what costs credits, and end in seconds.

        They are an input from another op, or `targets` or `targets_file` of the config, and become a partition of a
        dataset.
        """
        from scrapedo_dagster.execution.ad_hoc_steps import (
            submit_list,  # not before the step: it loads the whole engine
        )

        return submit_list(context, config, scrape_do, scrape_do_parquet, targets)

    return submit


submit_targets = build_submit_op(SubmitTargetsConfig)
"""Op: submits targets, from its input or its config (`SubmitTargetsConfig`), and gives a `ScrapeDoHandle`."""


def build_collect_op(job_deadline: timedelta = timedelta(hours=24), pool: str | None = None) -> dg.OpDefinition:
    """The op `collect_targets`, with a deadline of its own."""

    @dg.op(name="collect_targets", pool=pool)
    def collect(
        context: dg.OpExecutionContext,
        scrape_do: ScrapeDoResource,
        scrape_do_parquet: ParquetResource,
        handle: ScrapeDoHandle,
    ) -> ScrapeDoCollected:
        """Wait for what was submitted to end, and write it to Parquet: a partition of `tasks` and of `contents`."""
        from scrapedo_dagster.execution.ad_hoc_steps import collect_list

        return collect_list(context, scrape_do, scrape_do_parquet, handle, job_deadline)

    return collect


collect_targets = build_collect_op()
"""Op: waits for what a `ScrapeDoHandle` names, writes it to Parquet, and gives a `ScrapeDoCollected`."""
