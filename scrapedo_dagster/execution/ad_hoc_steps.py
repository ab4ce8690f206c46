"""The steps of the ops `submit_targets` and `collect_targets`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import dagster as dg
from dagster_shared.check import CheckError

from scrapedo_dagster.dataset import COLLECTS_TAG, Dataset, ad_hoc_dataset
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.execution.ad_hoc_options import collector_with_recorded_options, options_to_record
from scrapedo_dagster.execution.metadata import collected_metadata, submitted_metadata
from scrapedo_dagster.execution.results import CollectedPartition
from scrapedo_dagster.execution.session import step_session
from scrapedo_dagster.execution.steps import (
    begin_partition,
    collect_partitions,
    submit_partition,
    valid_entries,
    warn_of_empty_lists,
)
from scrapedo_dagster.execution.termination import cancel_when_terminated
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
    """Submit the targets of the input or the config as one partition."""
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
        cancel_when_terminated(context, scrape_do) as cancelable,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        file = config.targets_file
        listed = file.source().read(partition) if file else config.targets or targets or []
        entries = valid_entries(listed, config.on_invalid_target)
        session = replace(session, recorded_options=options_to_record(dataset))
        generation = begin_partition(session, partition, entries, cancelable)
        # Before anything is sent, since another run needs the partition if this one dies; and not for a launch that is
        # refused.
        context.instance.add_dynamic_partitions(dataset.name, [partition])
        result = submit_partition(session, partition, generation)
    context.log.info(f"{session.ref(partition)}: submitted {result.submitted} targets.")
    if not result.targets:
        warn_of_empty_lists(context, dataset, [partition])
    for key, metadata in submitted_metadata(dataset, result).items():
        context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
    return ScrapeDoHandle(dataset.name, partition, generation.number)


def collect_list(
    context: dg.OpExecutionContext,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    handle: ScrapeDoHandle,
    job_deadline: timedelta,
) -> ScrapeDoCollected:
    """Collect a partition that `submit_list` has submitted, and report it to Dagster."""
    context.instance.add_run_tags(context.run.run_id, {COLLECTS_TAG: handle.dataset})
    dataset = ad_hoc_dataset(handle.dataset, job_deadline=job_deadline)
    collected: list[CollectedPartition] = []
    with (
        cancel_when_terminated(context, scrape_do) as cancelable,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        errors = collect_partitions(
            context,
            session,
            [handle.partition],
            cancelable,
            lambda _partition, result: collected.append(result),
            collector_with_recorded_options,
        )
    for error in errors.values():
        raise error
    [result] = collected
    for key, metadata in collected_metadata(dataset, result).items():
        context.log_event(dg.AssetMaterialization(key, partition=handle.partition, metadata=metadata))
    return ScrapeDoCollected(
        dataset=handle.dataset,
        partition=handle.partition,
        generation=result.tasks.generation,
        targets=result.summary.targets,
        succeeded=result.summary.succeeded,
        failed=result.summary.failures,
        credits=result.summary.credits,
        tasks_uri=result.tasks.uri,
        contents_uri=result.contents.uri,
    )


def _partition_of_launch(context: dg.OpExecutionContext) -> str:
    """Name the partition of a launch. Its retries get the same name, since they continue what it submitted."""
    root = context.run.root_run_id or context.run.run_id
    record = context.instance.get_run_record_by_id(root)
    if record is None:
        raise dg.Failure(
            f"Run {root} is deleted, so its partition is not known. Nothing was submitted. Give a partition_key.",
            allow_retries=False,
        )
    name = f"{record.create_timestamp:%Y-%m-%d_%H-%M-%S}_{root[:8]}"
    # One run may submit several lists: in several nodes of its graph, or mapped over a dynamic output.
    step = "-".join(filter(None, [*context.op_handle.path, context.get_mapping_key()]))
    return name if step == SUBMIT_OP else f"{name}_{step}"


def _check_dataset(context: dg.OpExecutionContext, dataset: Dataset) -> None:
    """Fail if the dataset has partitions of another kind. Warn if no asset of this code location collects it."""
    try:
        assets = context.repository_def.assets_defs_by_key
    except CheckError:
        return  # executed from Python, without a code location
    defined = assets.get(dataset.tasks_key)
    if defined is None:
        context.log.warning(
            f"This code location has no dataset {dataset.name!r}: results are lost after three days unless "
            f"collect_targets collects them. build_ad_hoc_dataset(name={dataset.name!r}) makes its assets and the "
            "sensor that has them collected."
        )
    elif defined.specs_by_key[dataset.tasks_key].partitions_def != dataset.partitions_def:
        raise dg.Failure(
            f"dataset: {dataset.name!r} is a dataset of this code location with its own targets and partitions. "
            "Nothing was submitted. Give another name.",
            allow_retries=False,
        )
