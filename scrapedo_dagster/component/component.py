"""`ScrapeDoComponent`: datasets from `defs.yaml`, without Python."""

from __future__ import annotations

from typing import Literal

import dagster as dg
from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from scrapedo_dagster.component.ad_hoc import AdHocAttributes
from scrapedo_dagster.component.asset_settings import AssetsOfDataset
from scrapedo_dagster.component.dataset import DatasetAttributes
from scrapedo_dagster.component.resources import Resources
from scrapedo_dagster.component.scaffolder import ScrapeDoScaffolder
from scrapedo_dagster.component.schema import ComponentModel, YamlModel, refused
from scrapedo_dagster.sensors import build_scrape_do_sensor


class SensorSettings(ComponentModel):
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

    model_config = ConfigDict(
        json_schema_extra={"if": {"not": {"required": ["ad_hoc"]}}, "then": {"required": ["datasets"]}}
    )

    resources: Resources | None = None
    """Resources of the whole project. Leave out those that are defined elsewhere in the project."""
    datasets: list[DatasetAttributes] = Field(default_factory=list, min_length=1)
    """The datasets."""
    ad_hoc: AdHocAttributes | None = None
    """Lists that are given in the Launchpad, with the job for them."""
    sensor: SensorSettings = Field(default_factory=SensorSettings)
    """The completion sensor."""

    @model_validator(mode="after")
    def _has_datasets_of_different_names(self) -> Self:
        by_path: dict[tuple[str | int, ...], AssetsOfDataset] = {
            ("datasets", index): each for index, each in enumerate(self.datasets)
        }
        if self.ad_hoc is not None:
            by_path["ad_hoc",] = self.ad_hoc
        if not by_path:
            raise ValueError("Field required: datasets, or ad_hoc")
        names = [each.name for each in by_path.values()]
        twice = {
            (*path, "name"): f"another dataset is called {each.name!r}, and its jobs are named after it"
            for index, (path, each) in enumerate(by_path.items())
            if each.name in names[:index]
        }
        if twice:
            raise refused(type(self), twice)
        return self

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Dagster's hook: everything that it needs of the datasets."""
        datasets = [each.dataset for each in (*self.datasets, self.ad_hoc) if each is not None]
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
            resources=self.resources.by_key() if self.resources else None,
        )
