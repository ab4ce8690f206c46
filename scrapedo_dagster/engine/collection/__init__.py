"""Fetches ended tasks and writes them to Parquet."""
