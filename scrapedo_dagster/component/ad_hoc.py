"""The lists of a component that are given in the Launchpad, as they are written in YAML."""

from __future__ import annotations

from pydantic import Field

from scrapedo_dagster.ad_hoc import build_ad_hoc_dataset
from scrapedo_dagster.component.asset_settings import AssetsOfDataset
from scrapedo_dagster.dataset import ScrapeDoDataset


class AdHocAttributes(AssetsOfDataset):
    """A dataset of lists that are given in the Launchpad, and the job for it. See `build_ad_hoc_dataset`."""

    name: str = Field(default="ad_hoc", pattern="^[A-Za-z0-9_]+$")
    """The first part of the asset keys: letters, digits and underscores."""
    job_name: str = Field(default="scrape_targets", pattern="^[A-Za-z0-9_]+$")
    """Of the job that scrapes a list."""

    def _built(self) -> ScrapeDoDataset:
        return build_ad_hoc_dataset(name=self.name, job_name=self.job_name, **self._arguments())
