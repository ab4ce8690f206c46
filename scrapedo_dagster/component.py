"""`ScrapeDoComponent`: datasets from `defs.yaml`, without Python."""

from __future__ import annotations

from typing import Literal

import dagster as dg
from pydantic import Field, model_validator
from typing_extensions import Self

from scrapedo_dagster.component_dataset import DatasetAttributes
from scrapedo_dagster.component_resources import Resources
from scrapedo_dagster.component_scaffolder import ScrapeDoScaffolder
from scrapedo_dagster.component_schema import Settings, YamlModel, refused
from scrapedo_dagster.sensors import build_scrape_do_sensor


class SensorSettings(Settings):
    """The completion sensor, one for all datasets of the component."""

    name: str | None = None
    """By default the first dataset's name, and _completion."""
    default_status: Literal["running", "stopped"] = "running"
    """Whether it runs before anybody has started it."""
    minimum_interval_seconds: int = Field(default=10, ge=1)
    """Between two ticks."""


@dg.scaffold_with(ScrapeDoScaffolder)
class ScrapeDoComponent(dg.Component, YamlModel):
    """Scraping datasets over the Scrape.do Async API.

    Each dataset is three assets, what was submitted and two tables of results, with their checks, jobs and schedule.
    One sensor brings the results of all of them home.
    """

    resources: Resources | None = None
    """The account and the storage. Leave it out where the project has the resources scrape_do and scrape_do_parquet."""
    datasets: list[DatasetAttributes] = Field(min_length=1)
    """The datasets."""
    sensor: SensorSettings = Field(default_factory=SensorSettings)
    """The completion sensor."""

    @model_validator(mode="after")
    def _has_names_of_its_own_for_all(self) -> Self:
        names = [each.name for each in self.datasets]
        if twice := [index for index, name in enumerate(names) if name in names[:index]]:
            said = "another dataset has the name {!r}, by which jobs and the ledger know it: give this one another"
            raise refused(self, {("datasets", index, "name"): said.format(names[index]) for index in twice})
        return self

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Dagster's hook: everything that it needs of the datasets."""
        datasets = [each.dataset for each in self.datasets]
        sensor = build_scrape_do_sensor(
            *datasets,
            name=self.sensor.name or f"{datasets[0].name}_completion",
            minimum_interval_seconds=self.sensor.minimum_interval_seconds,
            default_status=dg.DefaultSensorStatus[self.sensor.default_status.upper()],
        )
        return dg.Definitions(
            assets=[asset for each in datasets for asset in each.assets],
            asset_checks=[check for each in datasets for check in each.asset_checks],
            jobs=[job for each in datasets for job in each.jobs],
            schedules=[schedule for each in datasets for schedule in each.schedules],
            sensors=[sensor],
            resources=self.resources.bound() if self.resources else None,
        )
