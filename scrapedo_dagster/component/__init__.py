"""The component `scrapedo_dagster.ScrapeDoComponent`: datasets in YAML."""
