"""Evaluates the asset checks of a dataset for the partitions of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.execution.metadata import markdown
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.partitions.keys import partitions_of_run
from scrapedo_dagster.resource import ScrapeDoResource

if TYPE_CHECKING:
    from scrapedo_dagster.engine.storage.summary import Summary

_SHOWN = 20  # partitions that the metadata of one check lists


_LOST = ("expired", "gone")


@dataclass(frozen=True)
class _Judged:
    """One partition. `listed` targets are in the ledger, or None if it does not know of this generation."""

    partition: str | None
    summary: Summary
    listed: int | None

    @property
    def lost(self) -> int:
        return sum(count for (status, _), count in self.summary.statuses.items() if status in _LOST)


@dataclass(frozen=True)
class _Check:
    """A check: which partitions fail it, what to say of each, and a number over all of them that is worth a plot."""

    name: str
    description: str
    severity: dg.AssetCheckSeverity
    fails: Callable[[_Judged], bool]
    columns: tuple[str, ...]
    row: Callable[[_Judged], tuple[Any, ...]]
    plot: Callable[[Sequence[_Judged]], float]

    def result(self, key: dg.AssetKey, judged: Sequence[_Judged]) -> dg.AssetCheckResult:
        failed = [each for each in judged if self.fails(each)]
        rows = [(each.partition, *self.row(each)) for each in failed[:_SHOWN]]
        return dg.AssetCheckResult(
            check_name=self.name,
            asset_key=key,
            passed=not failed,
            severity=self.severity,
            metadata={
                f"scrapedo/{self.name}": self.plot(judged),
                "scrapedo/partitions": len(judged),
                "scrapedo/failed_partitions": len(failed),
                "scrapedo/failed": dg.MetadataValue.md(markdown(("partition", *self.columns), rows)),
            },
        )


def checks_of(dataset: Dataset) -> list[_Check]:
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    checks = [
        _Check(
            "every_target_has_a_row",
            "Every target that was listed is a row.",
            error,
            lambda each: each.listed is not None and each.listed != each.summary.targets,
            ("targets", "rows"),
            lambda each: (each.listed, each.summary.targets),
            lambda judged: sum(each.summary.targets for each in judged),
        ),
        _Check(
            "enough_succeeded",
            f"At least {dataset.min_success_ratio:.0%} of the targets succeeded.",
            warn,
            lambda each: each.summary.success_ratio < dataset.min_success_ratio,
            ("succeeded", "targets"),
            lambda each: (each.summary.succeeded, each.summary.targets),
            lambda judged: min((each.summary.success_ratio for each in judged), default=1.0),
        ),
        _Check(
            "nothing_expired",
            "No result expired before it was collected.",
            error,
            lambda each: each.lost > 0,
            ("expired",),
            lambda each: (each.lost,),
            lambda judged: sum(each.lost for each in judged),
        ),
    ]
    budget = dataset.max_credits
    if budget is not None:
        checks.append(
            _Check(
                "credits_within_budget",
                f"A partition cost at most {budget} credits.",
                warn,
                lambda each: each.summary.credits > budget,
                ("credits", "budget"),
                lambda each: (each.summary.credits, budget),
                lambda judged: sum(each.summary.credits for each in judged),
            )
        )
    return checks


def evaluations(
    dataset: Dataset,
    partitions: Iterable[str | None],
    scrape_do: ScrapeDoResource,
    storage: ScrapeDoParquetIOManager,
) -> list[dg.AssetCheckEvaluation]:
    """What the checks say of these partitions, as the events that the step of checks would make of it."""
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
    judged = [_judge(dataset, partition, scrape_do, storage) for partition in partitions]
    for check in checks_of(dataset):
        yield check.result(dataset.tasks_key, judged)


def _judge(
    dataset: Dataset, partition: str | None, scrape_do: ScrapeDoResource, storage: ScrapeDoParquetIOManager
) -> _Judged:
    # Not before the step: they load pyarrow and SQLAlchemy.
    from scrapedo_dagster.engine.ledger.records import PartitionRef
    from scrapedo_dagster.engine.storage.summary import Summary, summarize

    table = dataset.tables(storage, partition).tasks
    current = table.current_generation(partition)
    ref = PartitionRef(scrape_do.account, dataset.ledger_name, partition)
    generation = current.generation if current else scrape_do.ledger.generations.newest(ref)
    submissions = scrape_do.ledger.submissions.with_targets(ref, generation)
    positions = {entry.position for each in submissions for entry in each.entries}
    if current:
        summary = summarize(table, partition)
    else:
        summary = Summary(targets=0, succeeded=0, bytes=0, credits=0, statuses={}, failed=(), slowest=())
    return _Judged(partition, summary, len(positions) if submissions else None)


def partitions_to_check(context: dg.AssetCheckExecutionContext, dataset: Dataset) -> list[str | None]:
    # By the run's tags: in a run of checks alone, Dagster knows of no partitions.
    partitions = partitions_of_run(context.run, dataset.partitions_def, context.instance)
    if partitions != [None] or dataset.partitions_def is None:
        return partitions
    return sorted(context.instance.get_materialized_partitions(dataset.tasks_key))
