"""A delivery, and the name under which the inbox keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

_MAX_ID_LENGTH = 200  # percent-encoded bytes; the columns of the inbox take 255 characters


class Arrival(NamedTuple):
    """The job and the task of a stored delivery."""

    job_id: str
    task_id: str


@dataclass(frozen=True)
class Delivery:
    """One finished task as Scrape.do has posted it.

    Attributes:
        key: the submission's key in the URL.
        job_id: the job that the body names.
        task_id: the task that the body names.
        body: the JSON, unchanged.
    """

    key: str
    job_id: str
    task_id: str
    body: bytes = field(repr=False)


def is_storable(identifier: str) -> bool:
    """Return whether the inbox can store the id of a job or a task: it is printable and not too long."""
    return identifier.isprintable() and 0 < len(quote(identifier, safe="")) <= _MAX_ID_LENGTH
