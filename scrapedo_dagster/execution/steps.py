"""The two steps of a dataset: submit the targets of some partitions, and bring their results home."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.collection.coordinator import collect_generations
from scrapedo_dagster.engine.collection.partition_collector import PartitionCollector
from scrapedo_dagster.engine.collection.progress import Progress
from scrapedo_dagster.engine.errors import EngineError, InvalidTargetsError
from scrapedo_dagster.engine.inbox.reader import prune_inbox
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.storage.summary import Summary, summarize
from scrapedo_dagster.engine.submission.planner import Generation
from scrapedo_dagster.engine.targets.target import Batch, Target, validated_entries
from scrapedo_dagster.execution import metadata
from scrapedo_dagster.execution.check_evaluation import evaluations
from scrapedo_dagster.execution.partition_events import PartitionEvents
from scrapedo_dagster.execution.session import StepSession, step_session
from scrapedo_dagster.execution.termination import StepContext, cancels_when_terminated
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.partitions.keys import partitions_of_step
from scrapedo_dagster.resource import ScrapeDoResource
from scrapedo_dagster.text import partitions_label

_LINE_EVERY = 5.0  # seconds between two lines of the log about partitions

Results = tuple[dg.MaterializeResult[None], ...]


def submit_step(
    context: dg.AssetExecutionContext,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    dataset: Dataset,
    targets: Callable[[str | None], Iterable[str | Target]],
) -> Results:
    """Submit every partition of the step. `targets` lists those of one partition."""
    partitions = partitions_of_step(context)
    # Not entered: what was submitted is canceled if a person terminates the run, and does not stand.
    truth = PartitionEvents(context, [dataset.jobs_key], partitions)
    log = _sparingly(context.log.info, len(partitions))
    empty: list[str | None] = []
    with (
        cancels_when_terminated(context, scrape_do) as begun,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        for partition in partitions:
            try:
                entries = checked(targets(partition), dataset.on_invalid_target)
                told = submit_partition(log, session, partition, begin_partition(session, partition, entries, begun))
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other partitions are submitted
                truth.failed(partition, problem)
            else:
                truth.done(partition, {dataset.jobs_key: told})
                if not told["scrapedo/targets"]:
                    empty.append(partition)
        warn_of_no_targets(context, dataset, empty)
        return truth.results()


def warn_of_no_targets(context: StepContext, dataset: Dataset, partitions: Sequence[str | None]) -> None:
    """Say which partitions have an empty list, which may be right, or a mistake of what lists them."""
    if partitions:
        where = dataset.name if partitions[0] is None else f"{dataset.name}, {partitions_label(partitions)}"
        context.log.warning(
            f"{where}: no targets were listed. Collecting them ends well and leaves no rows, also where there are "
            "some now. If that is a mistake, correct what lists the targets, and submit again."
        )


def checked(targets: Iterable[str | Target], on_invalid: Literal["raise", "skip"]) -> Batch:
    """What is listed, as it is submitted.

    Raises:
        dg.Failure: some targets are invalid, which no retry would mend.
    """
    try:
        return validated_entries(targets, on_invalid)
    except InvalidTargetsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _sparingly(log: Callable[[str], object], amount: int) -> Callable[[str], object]:
    """Of the lines about so many partitions, log the first, the last, and one every few seconds.

    Each line is an event that Dagster stores, which takes as long as all that is to be done for a small partition.
    """
    told, logged_at = 0, -_LINE_EVERY

    def tell(line: str) -> None:
        nonlocal told, logged_at
        told += 1
        now = time.monotonic()
        if told == amount or now - logged_at >= _LINE_EVERY:
            logged_at = now
            log(line if amount == 1 else f"{line} That is {told} of {amount} partitions.")

    return tell


def begin_partition(
    session: StepSession, partition: str | None, entries: Batch, begun: set[PartitionRef]
) -> Generation:
    """Record what is going to be submitted. The partition joins `begun`: there is something of it to cancel.

    Raises:
        dg.Failure: it would cost too much, or mix two lists, which no retry would mend.
    """
    try:
        generation = session.begin(partition, entries)
    except EngineError as error:
        if error.transient:
            raise
        raise dg.Failure(str(error), allow_retries=False) from error
    begun.add(session.ref(partition))
    return generation


def submit_partition(
    log: Callable[[str], object], session: StepSession, partition: str | None, generation: Generation
) -> metadata.Metadata:
    """Submit what was recorded, and say what that was."""
    told = metadata.of_jobs(generation, session.submitter(partition).submit(generation.number))
    log(f"{session.ref(partition)}: submitted {told['scrapedo/submitted']} targets.")
    return told


CollectorFactory = Callable[[StepSession, str | None], PartitionCollector]
"""What brings a partition home; `StepSession.collector` is the usual."""


def collect_step(
    context: dg.AssetExecutionContext,
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
    dataset: Dataset,
    collector: CollectorFactory = StepSession.collector,
) -> Results:
    """Bring every partition of the step home, waiting for its jobs where they have not ended."""
    partitions = partitions_of_step(context)
    evaluate = partial(evaluations, dataset, scrape_do=scrape_do, storage=storage)
    truth = PartitionEvents(context, [dataset.tasks_key, dataset.contents_key], partitions, evaluate)
    with (
        cancels_when_terminated(context, scrape_do) as begun,
        truth,
        step_session(dataset, scrape_do, storage, context) as session,
    ):
        problems = collect_partitions(context, session, partitions, begun, truth.done, collector)
        for partition, problem in problems.items():
            truth.failed(partition, problem)
        return truth.results()


def collect_partitions(
    context: StepContext,
    session: StepSession,
    partitions: Sequence[str | None],
    begun: set[PartitionRef],
    done: Callable[[str | None, dict[dg.AssetKey, metadata.Metadata]], None],
    collector: CollectorFactory,
) -> dict[str | None, Exception]:
    """Bring partitions home. Returns what kept the others from it.

    Args:
        context: of the step.
        session: where they are worked on.
        partitions: each is collected in its newest generation.
        begun: they join it, since there is something of them to cancel.
        done: is told each partition as it comes home, with the metadata of its assets.
        collector: of a partition.
    """
    dataset, ledger = session.dataset, session.scrape_do.ledger
    partition_of = {session.ref(partition): partition for partition in partitions}
    generation_of = {ref: ledger.generations.newest(ref) for ref in partition_of}
    begun.update(partition_of)
    total = _Total()

    def tell_home(ref: PartitionRef) -> None:
        summary, told = _told_of_results(session, ref, generation_of[ref])
        total.add(ref.partition, summary)
        done(partition_of[ref], told)

    def log_progress(progress: Progress) -> None:
        context.log.info(f"{dataset.ledger_name}: {progress}")

    problems = collect_generations(
        {collector(session, partition): generation_of[ref] for ref, partition in partition_of.items()},
        job_timeout=dataset.job_timeout,
        on_progress=log_progress,
        on_collected=tell_home,
    )
    prune_inbox(session.scrape_do.inbox)
    if total.home:
        log = context.log.warning if total.with_failures else context.log.info
        log(f"{dataset.ledger_name if len(total.home) > 1 else session.ref(total.home[0])}: {total}")
    return {partition_of[ref]: _as_failure(problem) for ref, problem in problems.items()}


def _as_failure(problem: Exception) -> Exception:
    """A problem that no retry would mend is said to be one."""
    if not isinstance(problem, EngineError) or problem.transient:
        return problem
    failure = dg.Failure(str(problem), allow_retries=False)
    failure.__cause__ = problem
    return failure


def _told_of_results(
    session: StepSession, ref: PartitionRef, generation: int
) -> tuple[Summary, dict[dg.AssetKey, metadata.Metadata]]:
    dataset, ledger = session.dataset, session.scrape_do.ledger
    tables = dataset.tables(session.storage, ref.partition)
    summary = summarize(tables.tasks, ref.partition)
    submitted_by = ledger.generations.run_id(ref, generation)
    return summary, {
        dataset.tasks_key: metadata.of_tasks(tables.tasks, ref.partition, summary, submitted_by),
        dataset.contents_key: metadata.of_contents(tables.contents, ref.partition, summary),
    }


@dataclass
class _Total:
    """What the partitions of a step that have come home came to."""

    home: list[str | None] = field(default_factory=list)
    targets: int = 0
    succeeded: int = 0
    credits: int = 0
    with_failures: list[str | None] = field(default_factory=list)

    def add(self, partition: str | None, summary: Summary) -> None:
        """One more."""
        self.home.append(partition)
        self.targets += summary.targets
        self.succeeded += summary.succeeded
        self.credits += summary.credits
        if summary.failures:
            self.with_failures.append(partition)

    def __str__(self) -> str:
        of_which = f" of {partitions_label(self.home)}" if len(self.home) > 1 else ""
        failed = f"; some failed of {partitions_label(self.with_failures)}" if of_which and self.with_failures else ""
        return f"{self.succeeded} of {self.targets} targets{of_which} succeeded, {self.credits} credits{failed}."
