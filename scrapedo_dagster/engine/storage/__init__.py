"""Where files are, how they are written, and the Parquet tables of a dataset."""
