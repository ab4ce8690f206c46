"""Dagster integration for the Scrape.do Async API."""
