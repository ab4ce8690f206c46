"""Evaluates the asset checks of a dataset for the partitions of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.execution.metadata import check_metadata, table
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.partitions.keys import partitions_of_run
from scrapedo_dagster.resource import ScrapeDoResource

if TYPE_CHECKING:
    from scrapedo_dagster.engine.storage.summary import Summary

_MAX_ROWS = 20  # failed partitions in the metadata of one check
_EXPIRED_STATUSES = ("expired", "gone")


@dataclass(frozen=True)
class CheckedPartition:
    """One partition.

    Attributes:
        partition: its key.
        summary: what is in its files; zeros if it has none.
        listed: its targets by the ledger, None if the ledger does not have this generation.
    """

    partition: str | None
    summary: Summary
    listed: int | None

    @property
    def expired(self) -> int:
        """Targets whose results Scrape.do deleted before they were collected."""
        return sum(count for (status, _), count in self.summary.statuses.items() if status in _EXPIRED_STATUSES)


@dataclass(frozen=True)
class PartitionCheck:
    """An asset check of many partitions. It fails if it fails for one of them.

    Attributes:
        name: of the check.
        description: of the check.
        severity: of a failure.
        fails: whether it fails for a partition.
        columns: of the table of failed partitions, after the partition: names and types.
        row: the values of these columns.
        value: a number over all partitions, which Dagster plots over time.
    """

    name: str
    description: str
    severity: dg.AssetCheckSeverity
    fails: Callable[[CheckedPartition], bool]
    columns: dict[str, str]
    row: Callable[[CheckedPartition], tuple[Any, ...]]
    value: Callable[[Sequence[CheckedPartition]], float]

    def result(self, key: dg.AssetKey, checked: Sequence[CheckedPartition]) -> dg.AssetCheckResult:
        """Check some partitions."""
        failed = [each for each in checked if self.fails(each)]
        rows = [(each.partition, *self.row(each)) for each in failed[:_MAX_ROWS]]
        failed_table = table({"partition": "string", **self.columns}, rows)
        return dg.AssetCheckResult(
            check_name=self.name,
            asset_key=key,
            passed=not failed,
            severity=self.severity,
            metadata=check_metadata(self.name, self.value(checked), len(checked), len(failed), failed_table),
        )


def checks_of(dataset: Dataset) -> list[PartitionCheck]:
    """List the asset checks of a dataset."""
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    checks = [
        PartitionCheck(
            "every_target_has_a_row",
            "Every listed target has a row.",
            error,
            lambda each: each.listed is not None and each.listed != each.summary.targets,
            {"targets": "int", "rows": "int"},
            lambda each: (each.listed, each.summary.targets),
            lambda checked: sum(each.summary.targets for each in checked),
        ),
        PartitionCheck(
            "enough_succeeded",
            f"At least {dataset.min_success_ratio:.0%} of the targets succeeded.",
            warn,
            lambda each: each.summary.success_ratio < dataset.min_success_ratio,
            {"succeeded": "int", "targets": "int"},
            lambda each: (each.summary.succeeded, each.summary.targets),
            lambda checked: min((each.summary.success_ratio for each in checked), default=1.0),
        ),
        PartitionCheck(
            "nothing_expired",
            "No result expired before it was collected.",
            error,
            lambda each: each.expired > 0,
            {"expired": "int"},
            lambda each: (each.expired,),
            lambda checked: sum(each.expired for each in checked),
        ),
    ]
    budget = dataset.max_credits
    if budget is not None:
        checks.append(
            PartitionCheck(
                "credits_within_budget",
                f"A partition cost at most {budget} credits.",
                warn,
                lambda each: each.summary.credits > budget,
                {"credits": "int", "budget": "int"},
                lambda each: (each.summary.credits, budget),
                lambda checked: sum(each.summary.credits for each in checked),
            )
        )
    return checks


def check_evaluations(
    dataset: Dataset,
    partitions: Iterable[str | None],
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
) -> list[dg.AssetCheckEvaluation]:
    """Evaluate the checks, as events that a step can log itself."""
    return [
        dg.AssetCheckEvaluation(
            asset_key=dataset.tasks_key,
            check_name=result.check_name or "",
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            blocking=False,
        )
        for result in check_results(dataset, partitions, scrape_do, storage)
    ]


def check_results(
    dataset: Dataset,
    partitions: Iterable[str | None],
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the checks, as results that a step of checks yields."""
    checked = [_read_partition(dataset, partition, scrape_do, storage) for partition in partitions]
    for check in checks_of(dataset):
        yield check.result(dataset.tasks_key, checked)


def _read_partition(
    dataset: Dataset, partition: str | None, scrape_do: ScrapeDoResource, storage: ScrapeDoParquetIOManager
) -> CheckedPartition:
    # Imported in the step, not before: they load pyarrow and SQLAlchemy.
    from scrapedo_dagster.engine.ledger.records import PartitionRef
    from scrapedo_dagster.engine.storage.summary import Summary, summarize

    tasks = dataset.tables(storage, partition).tasks
    current = tasks.current_generation(partition)
    ref = PartitionRef(scrape_do.account, dataset.ledger_name, partition)
    generation = current.generation if current else scrape_do.ledger.generations.newest(ref)
    submissions = scrape_do.ledger.submissions.with_targets(ref, generation)
    positions = {entry.position for each in submissions for entry in each.entries}
    if current:
        summary = summarize(tasks, partition)
    else:
        summary = Summary(targets=0, succeeded=0, bytes=0, credits=0, statuses={}, failed=(), slowest=())
    return CheckedPartition(partition, summary, len(positions) if submissions else None)


def partitions_to_check(context: dg.AssetCheckExecutionContext, dataset: Dataset) -> list[str | None]:
    """List the partitions of the run; all materialized ones if its tags name none."""
    # The context of a run of checks alone has no partitions, but its tags may name some.
    partitions = partitions_of_run(context.run, dataset.partitions_def, context.instance)
    if partitions != [None] or dataset.partitions_def is None:
        return partitions
    return sorted(context.instance.get_materialized_partitions(dataset.tasks_key))
