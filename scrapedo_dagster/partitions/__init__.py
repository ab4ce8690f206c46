"""Partition keys, ranges of them, and the context of one partition in a run of many."""
