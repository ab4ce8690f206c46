"""Partition keys, ranges of them, and contexts of single partitions."""
