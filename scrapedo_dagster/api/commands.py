"""Commands that an operation yields to its client.

An operation is a generator. It yields a command, receives the reply, and returns its result at the end. The blocking
and the asyncio client share every operation; they differ only in how they execute these three commands.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """Send one HTTP request. The reply is the `httpx.Response`, or the `httpx.RequestError` that was raised.

    Attributes:
        method: HTTP method.
        path: path below the base URL.
        subject: what the request is about, as error messages name it, such as `job abc`.
        job_id: id of the job that the request is about, if any.
        params: query parameters.
        json: request body.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    subject: str
    job_id: str | None = None
    params: dict[str, str] | None = None
    json: dict[str, Any] | None = field(default=None, repr=False)  # headers, cookies and bodies may contain secrets

    @property
    def idempotent(self) -> bool:
        """Whether the request is safe to repeat. Each POST creates, and charges, another job."""
        return self.method != "POST"


@dataclass(frozen=True)
class Sleep:
    """Wait for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class RunConcurrently:
    """Run operations concurrently. The reply is a list with the result or the `ScrapeDoError` of each."""

    operations: Sequence[Operation[Any]]


Command: TypeAlias = Call | Sleep | RunConcurrently
Operation: TypeAlias = Generator[Command, Any, T]
