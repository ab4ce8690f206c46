"""Decide whether and when a request is repeated. Sends nothing and does not sleep."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import httpx

AttemptOutcome: TypeAlias = httpx.Response | httpx.RequestError
"""The response to a request, or the error that was raised instead."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with jitter, in seconds.

    A pause is 50 to 100 % of `initial * multiplier**attempt`, which is limited to `maximum`.
    """

    initial: float = 0.5
    maximum: float = 30.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.initial < 0 or self.maximum < 0 or self.multiplier < 1:
            raise ValueError(f"{self}: initial and maximum must be at least 0, and multiplier at least 1")

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number `attempt`, counted from 0."""
        try:
            exponential = min(self.initial * self.multiplier**attempt, self.maximum)
        except OverflowError:  # far beyond the maximum
            exponential = self.maximum if self.initial else 0.0
        return exponential * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class RetryPolicy:
    """When and how often requests are retried.

    GET and DELETE are retried after connection errors, 429 and 5xx. POST /jobs is retried only if it provably did not
    arrive: no connection, or 429. The service has no idempotency key, and charges a job twice that is submitted twice.

    Attributes:
        attempts: maximum number of requests, the first included; 1 disables retries.
        backoff: pauses between attempts, unless the service sends `Retry-After`.
        max_retry_after: longest `Retry-After` to wait for, in seconds; the error is raised if it is longer.
    """

    attempts: int = 5
    backoff: Backoff = Backoff()
    max_retry_after: float = 120.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: must be at least 1")

    def pause_before_retry(self, outcome: AttemptOutcome, *, idempotent: bool, attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt, or None if the request must not be repeated.

        Args:
            outcome: outcome of the last attempt. Pass a successful response only if its body is unreadable.
            idempotent: whether the request is safe to repeat.
            attempt: number of the last attempt, counted from 0.
        """
        if attempt + 1 >= self.attempts or not _may_repeat(idempotent, outcome):
            return None
        requested = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if requested is None:
            return self.backoff.pause(attempt)
        return requested if requested <= self.max_retry_after else None


def never_processed(outcome: AttemptOutcome) -> bool:
    """Return whether the service certainly did not process the request: not connected, or 4xx.

    408 is excluded: gateways send it for requests that may have been processed.
    """
    if isinstance(outcome, httpx.Response):
        return 400 <= outcome.status_code < 500 and outcome.status_code != 408
    return isinstance(outcome, _NOT_SENT)


def _may_repeat(idempotent: bool, outcome: AttemptOutcome) -> bool:
    if isinstance(outcome, httpx.Response):
        repeatable = outcome.is_success or outcome.status_code >= 500
        return outcome.status_code == 429 or (idempotent and repeatable)
    return idempotent or never_processed(outcome)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of the `Retry-After` header, a number or an HTTP date; None without a valid one."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None
