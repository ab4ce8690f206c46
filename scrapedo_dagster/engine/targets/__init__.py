"""Targets: what is valid, how they are read, and how they are grouped into batches."""
