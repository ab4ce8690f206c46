"""Ops for lists of targets that are no dataset of their own: `submit_targets` and `collect_targets`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster_shared.check import CheckError

from scrapedo_dagster import metadata
from scrapedo_dagster.dataset import Dataset, workplace
from scrapedo_dagster.engine.targets import Target
from scrapedo_dagster.io_manager import ParquetResource, ScrapeDoParquetIOManager
from scrapedo_dagster.ops_config import SubmitTargetsConfig, check_sources
from scrapedo_dagster.ops_orders import ad_hoc_dataset, as_ordered, tell_order
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.runs import COLLECTS_TAG
from scrapedo_dagster.steps import checked, collect_partitions, submit_partition
from scrapedo_dagster.termination import cancels_when_terminated

_SUBMIT = "submit_targets"


@dataclass(frozen=True)
class ScrapeDoHandle:
    """What `submit_targets` has submitted, for `collect_targets` in the same run or in another one.

    Attributes:
        dataset: the name of the dataset.
        partition: the partition of it.
        generation: which scrape of the partition, from 1.
    """

    dataset: str
    partition: str
    generation: int


@dataclass(frozen=True)
class ScrapeDoCollected:
    """What `collect_targets` has brought home, which is a complete partition.

    Attributes:
        dataset: the name of the dataset.
        partition: the partition of it.
        generation: which scrape of the partition, from 1.
        targets: rows of `tasks`.
        succeeded: targets whose task succeeded, whatever the target itself answered.
        failed: the others.
        credits: as billed.
        tasks_uri: where the partition of `tasks` is.
        contents_uri: where the partition of `contents` is.
    """

    dataset: str
    partition: str
    generation: int
    targets: int
    succeeded: int
    failed: int
    credits: int
    tasks_uri: str
    contents_uri: str


def build_submit_op(config_type: type[SubmitTargetsConfig]) -> dg.OpDefinition:
    """The op `submit_targets`, with a config of its own."""

    @dg.op(
        name=_SUBMIT,
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
        return _submit(context, config, scrape_do, scrape_do_parquet, targets)

    return submit


def _submit(
    context: dg.OpExecutionContext,
    config: SubmitTargetsConfig,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    targets: Iterable[str | Target] | None,
) -> ScrapeDoHandle:
    try:
        check_sources(
            {"targets": config.targets, "targets_file": config.targets_file, "an input from another op": targets}
        )
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    dataset = ad_hoc_dataset(
        config.dataset,
        options=config.scrape_options(),
        on_invalid_target=config.on_invalid_target,
        max_credits=config.max_credits,
        max_open_jobs=config.max_open_jobs,
        retry_failed_targets=config.retry_failed_targets,
    )
    _check_dataset(context, dataset)
    partition = config.partition_key or _partition_of_launch(context)
    with cancels_when_terminated(context, scrape_do) as begun, workplace(dataset, scrape_do, storage, context) as place:
        file = config.targets_file
        listed = file.source().read(partition) if file else config.targets or targets or []
        entries = checked(listed, config.on_invalid_target)
        # Both before anything is submitted: whoever collects what a dead run has left needs them.
        context.instance.add_dynamic_partitions(dataset.name, [partition])
        tell_order(context, dataset, partition)
        told = submit_partition(context, place, partition, entries, begun)
    context.log_event(dg.AssetMaterialization(dataset.jobs_key, partition=partition, metadata=told))
    return ScrapeDoHandle(dataset.name, partition, told["scrapedo/generation"])


submit_targets = build_submit_op(SubmitTargetsConfig)
"""Op: submits targets, from its input or its config (`SubmitTargetsConfig`), and gives a `ScrapeDoHandle`."""


@dg.op
def collect_targets(
    context: dg.OpExecutionContext,
    scrape_do: ScrapeDoResource,
    scrape_do_parquet: ParquetResource,
    handle: ScrapeDoHandle,
) -> ScrapeDoCollected:
    """Wait for what was submitted to end, and write it to Parquet: a partition of `tasks` and of `contents`."""
    context.instance.add_run_tags(context.run.run_id, {COLLECTS_TAG: handle.dataset})
    dataset = ad_hoc_dataset(handle.dataset)
    told: dict[dg.AssetKey, metadata.Metadata] = {}

    def done(_partition: str | None, of_assets: dict[dg.AssetKey, metadata.Metadata]) -> None:
        told.update(of_assets)

    with (
        cancels_when_terminated(context, scrape_do) as begun,
        workplace(dataset, scrape_do, scrape_do_parquet, context) as place,
    ):
        problems = collect_partitions(context, place, [handle.partition], begun, done, as_ordered)
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
    return name if step == _SUBMIT else f"{name}_{step}"


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
            f"collect_targets brings it home. build_scrape_targets(dataset={dataset.name!r}) makes its assets and the "
            "sensor that looks after it."
        )
    elif defined.specs_by_key[dataset.tasks_key].partitions_def != dataset.partitions_def:
        raise dg.Failure(
            f"dataset: {dataset.name!r} is a dataset of this code location that has its own targets and partitions. "
            "Nothing was submitted. Give another name.",
            allow_retries=False,
        )
