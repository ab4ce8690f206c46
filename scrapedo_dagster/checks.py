"""Asset checks of a dataset: is every target a row, did enough succeed, did anything expire, what did it cost."""

from collections.abc import Iterator

import dagster as dg

from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.execution.check_evaluation import check_results, checks_of, partitions_to_check
from scrapedo_dagster.io_manager import ParquetResource
from scrapedo_dagster.resource import ScrapeDoResource


def build_checks(dataset: Dataset) -> tuple[dg.AssetChecksDefinition, ...]:
    """The checks of a dataset, as one step.

    They judge the partitions of their run, or all that are materialized when they are run alone. One that fails names
    the partitions.
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
