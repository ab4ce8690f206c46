"""What the ops do; see `ops`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import dagster as dg
from dagster_shared.check import CheckError

from scrapedo_dagster.dataset import COLLECTS_TAG, Dataset, ad_hoc_dataset
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.execution import metadata
from scrapedo_dagster.execution.ad_hoc_options import collector_with_recorded_options, record_options
from scrapedo_dagster.execution.session import step_session
from scrapedo_dagster.execution.steps import (
    begin_partition,
    checked,
    collect_partitions,
    submit_partition,
    warn_of_no_targets,
)
from scrapedo_dagster.execution.termination import cancels_when_terminated
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.ops_config import SUBMIT_OP, ScrapeDoCollected, ScrapeDoHandle, SubmitTargetsConfig, check_sources
from scrapedo_dagster.resource import ScrapeDoResource


def submit_list(
    context: dg.OpExecutionContext,
    config: SubmitTargetsConfig,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    targets: Iterable[str | Target] | None,
) -> ScrapeDoHandle:
    """Submit the targets of the input or the config, as a partition."""
    try:
        check_sources(
            {"targets": config.targets, "targets_file": config.targets_file, "an input from another op": targets}
        )
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    dataset = ad_hoc_dataset(config.dataset, **config.submit_options())
    _check_dataset(context, dataset)
    partition = config.partition_key or _partition_of_launch(context)
    with (
        cancels_when_terminated(context, scrape_do) as begun,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        file = config.targets_file
        listed = file.source().read(partition) if file else config.targets or targets or []
        entries = checked(listed, config.on_invalid_target)
        generation = begin_partition(session, partition, entries, begun)
        # Both before anything is sent, since whoever collects what a dead run has left needs them; and neither for a
        # launch that is refused.
        context.instance.add_dynamic_partitions(dataset.name, [partition])
        record_options(context, dataset, partition)
        told = submit_partition(context.log.info, session, partition, generation)
    if not told["scrapedo/targets"]:
        warn_of_no_targets(context, dataset, [partition])
    context.log_event(dg.AssetMaterialization(dataset.jobs_key, partition=partition, metadata=told))
    return ScrapeDoHandle(dataset.name, partition, told["scrapedo/generation"])


def collect_list(
    context: dg.OpExecutionContext,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    handle: ScrapeDoHandle,
    job_deadline: timedelta,
) -> ScrapeDoCollected:
    """Bring home what was submitted, and tell Dagster."""
    context.instance.add_run_tags(context.run.run_id, {COLLECTS_TAG: handle.dataset})
    dataset = ad_hoc_dataset(handle.dataset, job_deadline=job_deadline)
    told: dict[dg.AssetKey, metadata.Metadata] = {}

    def done(_partition: str | None, of_assets: dict[dg.AssetKey, metadata.Metadata]) -> None:
        told.update(of_assets)

    with (
        cancels_when_terminated(context, scrape_do) as begun,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        problems = collect_partitions(
            context, session, [handle.partition], begun, done, collector_with_recorded_options
        )
    for problem in problems.values():
        raise problem
    for key, of_asset in told.items():
        context.log_event(dg.AssetMaterialization(key, partition=handle.partition, metadata=of_asset))
    of_tasks, of_contents = told[dataset.tasks_key], told[dataset.contents_key]
    return ScrapeDoCollected(
        dataset=handle.dataset,
        partition=handle.partition,
        generation=of_tasks["scrapedo/generation"],
        targets=of_tasks["scrapedo/targets"],
        succeeded=of_tasks["scrapedo/succeeded"],
        failed=of_tasks["scrapedo/failed"],
        credits=of_tasks["scrapedo/credits"],
        tasks_uri=of_tasks["dagster/uri"],
        contents_uri=of_contents["dagster/uri"],
    )


def _partition_of_launch(context: dg.OpExecutionContext) -> str:
    """Of each launch its own; of its retries, which go on with what it has submitted, the same."""
    root = context.run.root_run_id or context.run.run_id
    record = context.instance.get_run_record_by_id(root)
    if record is None:
        raise dg.Failure(
            f"Run {root} is deleted, so that its partition is not known. Nothing was submitted. Give a partition_key.",
            allow_retries=False,
        )
    name = f"{record.create_timestamp:%Y-%m-%d_%H-%M-%S}_{root[:8]}"
    # One run may submit several lists: in different nodes of its graph, or mapped over a dynamic output.
    step = "-".join(filter(None, [*context.op_handle.path, context.get_mapping_key()]))
    return name if step == SUBMIT_OP else f"{name}_{step}"


def _check_dataset(context: dg.OpExecutionContext, dataset: Dataset) -> None:
    """Refuse the name of a dataset that has partitions of another kind; warn if nothing else would collect it."""
    try:
        assets = context.repository_def.assets_defs_by_key
    except CheckError:
        return  # executed from Python, without a code location
    defined = assets.get(dataset.tasks_key)
    if defined is None:
        context.log.warning(
            f"This code location has no dataset {dataset.name!r}: what is submitted is lost after three days if no "
            f"collect_targets brings it home. build_ad_hoc_dataset(name={dataset.name!r}) makes its assets and the "
            "sensor that looks after it."
        )
    elif defined.specs_by_key[dataset.tasks_key].partitions_def != dataset.partitions_def:
        raise dg.Failure(
            f"dataset: {dataset.name!r} is a dataset of this code location that has its own targets and partitions. "
            "Nothing was submitted. Give another name.",
            allow_retries=False,
        )
