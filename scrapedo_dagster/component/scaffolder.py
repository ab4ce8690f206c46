"""`dg scaffold defs scrapedo_dagster.ScrapeDoComponent`: a `defs.yaml` to begin with."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel, Field


class ScaffoldParams(BaseModel):
    """The options of the command."""

    name: str = Field(default="pages", description="The name of the dataset.")
    storage: str = Field(default="scraped", description="Where the tables go: a path or URI.")
    file: str | None = Field(default=None, description="A file of targets: CSV, Parquet or text, a path or URI.")


class ScrapeDoScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a `defs.yaml` with one dataset."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """Dagster's hook: the options of the command."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Dagster's hook: write the file."""
        params = request.params
        dg.scaffold_component(
            request,
            {
                "resources": {"token_variable": "SCRAPE_DO_API_KEY", "storage": params.storage},
                "datasets": [
                    {"name": params.name, "targets": {"file": params.file} if params.file else ["https://example.com"]}
                ],
            },
        )
