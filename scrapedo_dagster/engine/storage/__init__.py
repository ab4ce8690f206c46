"""File locations, atomic writes, and the Parquet tables of a dataset."""
