"""The columns of the tables `tasks` and `contents`, without pyarrow: definitions show them and load quickly.

The partition key is not a column of the files: it is in the directory's name, and readers of Hive directories (pyarrow,
and so pandas) raise if a column is in both. `ParquetTable.dataset` adds it as the column `partition`.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """A column. `type` is the Arrow type as pyarrow prints it, and must be known to `schema.py`.

    Columns are nullable unless they have a value for every target, whatever its result.
    """

    name: str
    type: str
    description: str
    nullable: bool = True


_UTC = "timestamp[us, tz=UTC]"

TASKS_COLUMNS = (
    Column("job_id", "string", "Scrape.do job that the target was sent in"),
    Column("task_id", "string", "Scrape.do task of the target"),
    Column("position", "int64", "Index of the target in the partition's list, from 0", nullable=False),
    Column("url", "string", "The target, as it was submitted", nullable=False),
    Column("target_key", "string", "The key that the target was listed with"),
    Column("status", "string", "How the task ended", nullable=False),
    Column("status_code", "int32", "HTTP status that the target answered with"),
    Column("start_time", _UTC, "When Scrape.do began the task"),
    Column("end_time", _UTC, "When Scrape.do ended the task"),
    Column("update_time", _UTC, "When Scrape.do last changed the task"),
    Column("duration_ms", "int64", "Milliseconds from start to end"),
    Column("content_type", "string", "Media type of the answer, without parameters"),
    Column("charset", "string", "Character encoding of the answer"),
    Column("content_length", "int64", "Bytes of the decoded content"),
    Column("content_sha256", "string", "SHA-256 of the decoded content, in hexadecimal"),
    Column("credits_used", "int64", "Credits billed for the task"),
    Column("remaining_credits", "int64", "Credits of the account left after the task"),
    Column("response_headers", "map<string, string>", "HTTP headers of the target's answer"),
    Column("error_message", "string", "Why there is no content"),
    Column("expires_at", _UTC, "When Scrape.do deletes the result"),
    Column("trace_id", "string", "Scrape.do's name of the request, for its support"),
    Column("generation", "int64", "Which scrape of the partition, counted up", nullable=False),
)
"""Columns of `tasks`: one row a target."""

# 64-bit offsets: with 32-bit ones, a column of over 2 GB (10,000 pages of 200 kB) can be loaded, but not sorted, joined
# or combined into one chunk. The files are identical.
CONTENTS_COLUMNS = (
    Column("task_id", "string", "Scrape.do task of the target", nullable=False),
    Column("url", "string", "The target, as it was submitted", nullable=False),
    Column("status_code", "int32", "HTTP status that the target answered with"),
    Column("content_type", "string", "Media type of the answer, without parameters"),
    Column("content", "large_binary", "The decoded content", nullable=False),
    Column("text", "large_string", "The content as text, when it is text"),
)
"""Columns of `contents`: one row a target that has content."""
