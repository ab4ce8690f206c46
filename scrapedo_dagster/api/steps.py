"""What an operation may ask its driver to do.

An operation is a generator: it yields a step, receives what came of it, and at its end returns a result. So the
blocking and the asyncio client share every decision, and differ only in how they do these three things.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """Send a request. The reply is the `httpx.Response`, or the `httpx.RequestError` that came instead.

    Attributes:
        method: the HTTP verb.
        path: below the base URL.
        subject: what the request is about, in the words of an error message: `job abc`.
        job_id: the job it is about, if it is about one.
        params: the query string.
        json: the body.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    subject: str
    job_id: str | None = None
    params: dict[str, str] | None = None
    json: dict[str, Any] | None = field(default=None, repr=False)  # headers, cookies and bodies may hold secrets

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice does no more than sending it once. POST creates, and charges, a job each time."""
        return self.method != "POST"


@dataclass(frozen=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Together:
    """Do these operations, several at a time. The reply is a list: each one's result or its `ScrapeDoError`."""

    operations: Sequence[Operation[Any]]


Step: TypeAlias = Call | Sleep | Together
Operation: TypeAlias = Generator[Step, Any, T]
