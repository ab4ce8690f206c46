"""Scaffolds a `defs.yaml`: `dg scaffold defs scrapedo_dagster.ScrapeDoComponent NAME`."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel, Field


class ScaffoldParams(BaseModel):
    """Options of the command."""

    name: str = Field(default="pages", description="Name of the dataset.")
    base_uri: str = Field(default="scraped", description="Where the tables are stored: a path or URI.")
    file: str | None = Field(default=None, description="Path or URI of a file of targets: CSV, Parquet or text.")


class ScrapeDoScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a `defs.yaml` with one dataset."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """Return the options of the command. Called by Dagster."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the file. Called by Dagster."""
        params = request.params
        dg.scaffold_component(
            request,
            {
                "resources": {
                    "scrape_do": {"api_token": {"env": "SCRAPE_DO_API_KEY"}},
                    "scrape_do_parquet": {"base_uri": params.base_uri},
                },
                "datasets": [
                    {"name": params.name, "targets": {"file": params.file} if params.file else ["https://example.com"]}
                ],
            },
        )
