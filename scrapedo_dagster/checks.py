"""The asset checks of a dataset: every target has a row, enough succeeded, nothing expired, credits within budget."""

from collections.abc import Iterator

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.execution.check_evaluation import check_results, checks_of, partitions_to_check
from scrapedo_dagster.io_manager import ParquetResource
from scrapedo_dagster.resource import ScrapeDoResource


def build_checks(dataset: Dataset) -> tuple[dg.AssetChecksDefinition, ...]:
    """Build the checks of a dataset, as one step.

    They check the partitions of their run, or all materialized ones if the run has none. The metadata of a failed check
    lists the partitions that fail it.
    """
    specs = [
        dg.AssetCheckSpec(each.name, asset=dataset.tasks_key, description=each.description)
        for each in checks_of(dataset)
    ]

    @dg.multi_asset_check(name=f"{dataset.name}__checks", specs=specs)
    def evaluate(
        context: dg.AssetCheckExecutionContext, scrape_do: ScrapeDoResource, scrape_do_parquet: ParquetResource
    ) -> Iterator[dg.AssetCheckResult]:
        yield from check_results(dataset, partitions_to_check(context, dataset), scrape_do, scrape_do_parquet)

    return (evaluate,)
