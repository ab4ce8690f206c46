"""The columns of the two tables of a dataset.

The key of a partition is no column of the files: it is in the directory's name, and readers of Hive directories
(pyarrow, and so pandas) refuse a column that is in both. `ParquetTable.dataset` gives it as the column `partition`.

Columns are nullable unless they are known for every target, whatever happened to it. Each has its description as field
metadata, under the key `description`.
"""

import pyarrow as pa


def _column(name: str, type_: pa.DataType, description: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"description": description})


_UTC = pa.timestamp("us", tz="UTC")

TASKS_SCHEMA = pa.schema(
    [
        _column("job_id", pa.string(), "Scrape.do job that the target was sent in"),
        _column("task_id", pa.string(), "Scrape.do task of the target"),
        _column("position", pa.int64(), "Index of the target in the partition's list, from 0", nullable=False),
        _column("url", pa.string(), "The target, as it was submitted", nullable=False),
        _column("target_key", pa.string(), "The key that the target was listed with"),
        _column("status", pa.string(), "How the task ended", nullable=False),
        _column("status_code", pa.int32(), "HTTP status that the target answered with"),
        _column("start_time", _UTC, "When Scrape.do began the task"),
        _column("end_time", _UTC, "When Scrape.do ended the task"),
        _column("update_time", _UTC, "When Scrape.do last changed the task"),
        _column("duration_ms", pa.int64(), "Milliseconds from start to end"),
        _column("content_type", pa.string(), "Media type of the answer, without parameters"),
        _column("charset", pa.string(), "Character encoding of the answer"),
        _column("content_length", pa.int64(), "Bytes of the decoded content"),
        _column("content_sha256", pa.string(), "SHA-256 of the decoded content, in hexadecimal"),
        _column("credits_used", pa.int64(), "Credits billed for the task"),
        _column("remaining_credits", pa.int64(), "Credits of the account left after the task"),
        _column("response_headers", pa.map_(pa.string(), pa.string()), "HTTP headers of the target's answer"),
        _column("error_message", pa.string(), "Why there is no content"),
        _column("expires_at", _UTC, "When Scrape.do deletes the result"),
        _column("trace_id", pa.string(), "Scrape.do's name of the request, for its support"),
        _column("generation", pa.int64(), "Which scrape of the partition, counted up", nullable=False),
    ]
)
"""One row a target, always."""

# 64-bit offsets: with 32-bit ones a column of over 2 GB (10,000 pages of 200 kB) can be loaded, but not sorted, joined
# or combined into one chunk. The files are the same.
CONTENTS_SCHEMA = pa.schema(
    [
        _column("task_id", pa.string(), "Scrape.do task of the target", nullable=False),
        _column("url", pa.string(), "The target, as it was submitted", nullable=False),
        _column("status_code", pa.int32(), "HTTP status that the target answered with"),
        _column("content_type", pa.string(), "Media type of the answer, without parameters"),
        _column("content", pa.large_binary(), "The decoded content", nullable=False),
        _column("text", pa.large_string(), "The content as text, when it is text"),
    ]
)
"""One row a target that has content."""
