"""The two steps of a dataset: submit the targets of its partitions, and collect their results."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.collection.coordinator import collect_generations
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.progress import REPORT_INTERVAL, Progress
from scrapedo_dagster.engine.errors import EngineError, InvalidTargetsError
from scrapedo_dagster.engine.inbox.delivered_tasks import prune_inbox
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.storage.summary import Summary
from scrapedo_dagster.engine.submission.planner import Generation
from scrapedo_dagster.engine.targets.target import Batch, Target
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.execution.check_evaluation import check_evaluations
from scrapedo_dagster.execution.metadata import collected_metadata, submitted_metadata
from scrapedo_dagster.execution.partition_events import PartitionEvents
from scrapedo_dagster.execution.results import CollectedPartition, SubmittedPartition
from scrapedo_dagster.execution.session import StepSession, step_session
from scrapedo_dagster.execution.termination import StepContext, cancel_when_terminated
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.partitions.keys import partitions_of_step
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.text import partitions_label

MaterializeResults = tuple[dg.MaterializeResult[None], ...]


def submit_step(
    context: dg.AssetExecutionContext,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    dataset: Dataset,
    targets: Callable[[str | None], Iterable[str | Target]],
) -> MaterializeResults:
    """Submit each partition of the step. `targets` lists the targets of a partition."""
    partitions = partitions_of_step(context)
    # Not entered: if a person terminates the run, its jobs are canceled, and no partition of it is green.
    events = PartitionEvents[SubmittedPartition](
        context, [dataset.jobs_key], partitions, partial(submitted_metadata, dataset)
    )
    log = _throttled(context.log.info, len(partitions))
    empty: list[str | None] = []
    with (
        cancel_when_terminated(context, scrape_do) as cancelable,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        for partition in partitions:
            try:
                entries = valid_entries(targets(partition), dataset.on_invalid_target)
                generation = begin_partition(session, partition, entries, cancelable)
                result = submit_partition(session, partition, generation)
                events.succeeded(partition, result)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other partitions are submitted
                events.failed(partition, error)
            else:
                log(f"{session.ref(partition)}: submitted {result.submitted} targets")
                if not result.targets:
                    empty.append(partition)
        warn_of_empty_lists(context, dataset, empty)
        return events.materialize_results()


def warn_of_empty_lists(context: StepContext, dataset: Dataset, partitions: Sequence[str | None]) -> None:
    """Log which partitions have no targets. That may be right, or a mistake in what lists them."""
    if partitions:
        where = dataset.name if partitions[0] is None else f"{dataset.name}, {partitions_label(partitions)}"
        context.log.warning(
            f"{where}: no targets were listed. Collecting succeeds and leaves no rows, even if there are some now. If "
            "that is a mistake, correct what lists the targets and submit again."
        )


def valid_entries(targets: Iterable[str | Target], on_invalid: Literal["raise", "skip"]) -> Batch:
    """Validate a list of targets.

    Raises:
        dg.Failure: some targets are invalid. It is not retried.
    """
    try:
        return validated_entries(targets, on_invalid)
    except InvalidTargetsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def begin_partition(
    session: StepSession, partition: str | None, entries: Batch, cancelable: set[PartitionRef]
) -> Generation:
    """Plan a generation of a partition, or continue the open one. Adds the partition to `cancelable`.

    Raises:
        dg.Failure: it would cost too much, or mix two lists. It is not retried.
    """
    try:
        generation = session.begin(partition, entries)
    except EngineError as error:
        if error.transient:
            raise
        raise dg.Failure(str(error), allow_retries=False) from error
    cancelable.add(session.ref(partition))
    return generation


def submit_partition(session: StepSession, partition: str | None, generation: Generation) -> SubmittedPartition:
    """Submit the planned batches of a generation."""
    return SubmittedPartition.of(generation, session.submitter(partition).submit(generation.number))


CollectorFactory = Callable[[StepSession, str | None], PartitionCollector]
"""Makes the collector of a partition; `StepSession.collector` is the default."""


def collect_step(
    context: dg.AssetExecutionContext,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    dataset: Dataset,
    collector: CollectorFactory = StepSession.collector,
    report_interval: float = REPORT_INTERVAL,
) -> MaterializeResults:
    """Collect each partition of the step. Waits for its jobs if they have not ended.

    Logs progress every `report_interval` seconds, less often while nothing changes.
    """
    partitions = partitions_of_step(context)
    events = PartitionEvents[CollectedPartition](
        context,
        [dataset.tasks_key, dataset.contents_key],
        partitions,
        partial(collected_metadata, dataset),
        partial(check_evaluations, dataset, scrape_do=scrape_do, storage=storage),
    )
    with (
        cancel_when_terminated(context, scrape_do) as cancelable,
        events,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        errors = collect_partitions(
            context, session, partitions, cancelable, events.succeeded, collector, report_interval
        )
        for partition, error in errors.items():
            events.failed(partition, error)
        return events.materialize_results()


def collect_partitions(
    context: StepContext,
    session: StepSession,
    partitions: Sequence[str | None],
    cancelable: set[PartitionRef],
    on_collected: Callable[[str | None, CollectedPartition], None],
    collector: CollectorFactory,
    report_interval: float = REPORT_INTERVAL,
) -> dict[str | None, Exception]:
    """Collect the newest generation of each partition. Returns the errors of those that failed.

    Args:
        context: of the step.
        session: of the step.
        partitions: the partitions to collect.
        cancelable: the partitions are added to it.
        on_collected: called with each partition once its results are in Parquet.
        collector: makes the collector of a partition.
        report_interval: seconds between two log lines of progress.
    """
    dataset, ledger = session.dataset, session.scrape_do.ledger
    partition_of = {session.ref(partition): partition for partition in partitions}
    generation_of = {ref: ledger.generations.newest(ref) for ref in partition_of}
    cancelable.update(partition_of)
    totals = _Totals()

    def summarize_partition(ref: PartitionRef) -> None:
        result = CollectedPartition.of(
            dataset.tables(session.storage, ref.partition),
            ref.partition,
            ledger.generations.run_id(ref, generation_of[ref]),
        )
        totals.add(ref.partition, result.summary)
        on_collected(partition_of[ref], result)

    def log_progress(progress: Progress) -> None:
        context.log.info(f"{dataset.ledger_name}: {progress}")

    errors = collect_generations(
        {collector(session, partition): generation_of[ref] for ref, partition in partition_of.items()},
        job_timeout=dataset.job_timeout,
        on_progress=log_progress,
        on_collected=summarize_partition,
        report_interval=report_interval,
    )
    prune_inbox(session.scrape_do.inbox)
    if totals.collected:
        log = context.log.warning if totals.with_failures else context.log.info
        log(f"{dataset.ledger_name if len(totals.collected) > 1 else session.ref(totals.collected[0])}: {totals}")
    return {partition_of[ref]: _as_failure(error) for ref, error in errors.items()}


def _as_failure(error: Exception) -> Exception:
    """Make an error that a retry cannot cure a failure that is not retried."""
    if not isinstance(error, EngineError) or error.transient:
        return error
    failure = dg.Failure(str(error), allow_retries=False)
    failure.__cause__ = error
    return failure


def _throttled(log: Callable[[str], object], amount: int, clock: Clock = SYSTEM_CLOCK) -> Callable[[str], object]:
    """Log the first and the last of `amount` lines about partitions, and one every few seconds.

    Each line is an event that Dagster stores, which takes as long as submitting a small partition.
    """
    count, logged_at = 0, -REPORT_INTERVAL

    def log_throttled(line: str) -> None:
        nonlocal count, logged_at
        count += 1
        now = clock.monotonic()
        if count == amount or now - logged_at >= REPORT_INTERVAL:
            logged_at = now
            log(f"{line}." if amount == 1 else f"{line} ({count} of {amount} partitions).")

    return log_throttled


@dataclass
class _Totals:
    """Totals over the collected partitions of a step."""

    collected: list[str | None] = field(default_factory=list)
    targets: int = 0
    succeeded: int = 0
    credits: int = 0
    with_failures: list[str | None] = field(default_factory=list)

    def add(self, partition: str | None, summary: Summary) -> None:
        """Add a partition."""
        self.collected.append(partition)
        self.targets += summary.targets
        self.succeeded += summary.succeeded
        self.credits += summary.credits
        if summary.failures:
            self.with_failures.append(partition)

    def __str__(self) -> str:
        total = f"{self.succeeded} of {self.targets} targets succeeded, {self.credits} credits"
        if len(self.collected) == 1:
            return f"{total}."
        failed = f"; targets failed in {partitions_label(self.with_failures)}" if self.with_failures else ""
        return f"{total}, in {partitions_label(self.collected)}{failed}."
