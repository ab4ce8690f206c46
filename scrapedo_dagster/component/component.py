"""ScrapeDoComponent: datasets in a `defs.yaml`."""

from __future__ import annotations

from typing import Literal

import dagster as dg
from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from scrapedo_dagster.component.datasets import AdHocAttributes, DatasetAttributes
from scrapedo_dagster.component.resources import Resources
from scrapedo_dagster.component.scaffolder import ScrapeDoScaffolder
from scrapedo_dagster.component.schema import ComponentModel, YamlModel, refused
from scrapedo_dagster.sensors import build_scrape_do_sensor


class SensorSettings(ComponentModel):
    """The completion sensor of all datasets of the component."""

    name: str | None = None
    """Name of the sensor; by default `{first dataset}_completion`."""
    default_status: Literal["running", "stopped"] = "running"
    """Status of the sensor before anybody starts or stops it."""
    minimum_interval_seconds: int = Field(default=10, ge=1)
    """Seconds between two ticks."""


@dg.scaffold_with(ScrapeDoScaffolder)
class ScrapeDoComponent(dg.Component, YamlModel):
    """Datasets that are scraped with the Scrape.do Async API.

    Each dataset is three assets: `jobs` submits, and `tasks` and `contents` are tables of results. They have checks,
    jobs and a schedule. One sensor launches the collecting of all datasets.
    """

    model_config = ConfigDict(
        json_schema_extra={"if": {"not": {"required": ["ad_hoc"]}}, "then": {"required": ["datasets"]}}
    )

    resources: Resources | None = None
    """Resources of the whole project. Leave out those that are defined elsewhere in the project."""
    datasets: list[DatasetAttributes] = Field(default_factory=list, min_length=1)
    """The datasets."""
    ad_hoc: AdHocAttributes | None = None
    """A dataset of lists that are given in the Launchpad, and the job that scrapes one."""
    sensor: SensorSettings = Field(default_factory=SensorSettings)
    """The completion sensor."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        by_path: dict[tuple[str | int, ...], AdHocAttributes | DatasetAttributes] = {
            ("datasets", index): each for index, each in enumerate(self.datasets)
        }
        if self.ad_hoc is not None:
            by_path["ad_hoc",] = self.ad_hoc
        if not by_path:
            raise ValueError("Field required: datasets, or ad_hoc")
        names = [each.name for each in by_path.values()]
        twice = {
            (*path, "name"): f"another dataset is called {each.name!r}; jobs are named after datasets"
            for index, (path, each) in enumerate(by_path.items())
            if each.name in names[:index]
        }
        if twice:
            raise refused(type(self), twice)
        return self

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the datasets, the sensor and the resources. Called by Dagster."""
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
