"""The asset checks of a dataset: every target has a row, enough succeeded, nothing expired, credits within budget."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.execution.check_evaluation import check_results, checks_of, partitions_to_check


def build_checks(dataset: Dataset, op_tags: Mapping[str, Any] | None = None) -> tuple[dg.AssetChecksDefinition, ...]:
    """Build the checks of a dataset, as one step.

    They check the partitions of their run, or all materialized ones if the run has none. The metadata of a failed check
    lists the partitions that fail it.
    """
    specs = [
        dg.AssetCheckSpec(each.name, asset=dataset.tasks_key, description=each.description)
        for each in checks_of(dataset)
    ]

    @dg.multi_asset_check(
        name=f"{dataset.name}__checks", specs=specs, required_resource_keys=dataset.resource_keys, op_tags=op_tags
    )
    def evaluate(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        yield from check_results(dataset, partitions_to_check(context, dataset), *dataset.resources_of(context))

    return (evaluate,)
