"""When a request is sent again, and after how long. Decides only; sends and sleeps nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import httpx

AttemptOutcome: TypeAlias = httpx.Response | httpx.RequestError
"""What sending a request brought: an answer, or none."""

_NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Backoff:
    """Growing pauses in seconds: `initial * multiplier**attempt`, at most `maximum`, then 50 to 100 % of it.

    The random part keeps many clients from asking in step.
    """

    initial: float = 0.5
    maximum: float = 30.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.initial < 0 or self.maximum < 0 or self.multiplier < 1:
            raise ValueError(f"{self}: initial and maximum cannot be below 0, nor multiplier below 1")

    def pause(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`, counted from 0."""
        try:
            exponential = min(self.initial * self.multiplier**attempt, self.maximum)
        except OverflowError:  # long after it has passed the maximum
            exponential = self.maximum if self.initial else 0.0
        return exponential * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a request is repeated, where repeating is safe.

    GET and DELETE repeat on connection errors, 429 and 5xx. POST /jobs repeats only when it provably did not
    arrive: no connection, or 429. There is no idempotency key, and a job submitted twice is paid twice.

    Attributes:
        attempts: requests sent at most, the first included; 1 never repeats.
        backoff: the pauses, where the service names none.
        max_retry_after: seconds; a longer `Retry-After` is not waited for, but raised as the error it came with.
    """

    attempts: int = 5
    backoff: Backoff = Backoff()
    max_retry_after: float = 120.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: at least 1 request has to be sent")

    def pause_before_retry(self, outcome: AttemptOutcome, *, idempotent: bool, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, or None if there must be none.

        `attempt` counts from 0; `outcome` is what the last attempt brought. A success is an outcome to repeat
        after only if the caller could not read it.
        """
        if attempt + 1 >= self.attempts or not _may_repeat(idempotent, outcome):
            return None
        asked = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if asked is None:
            return self.backoff.pause(attempt)
        return asked if asked <= self.max_retry_after else None


def never_arrived(outcome: AttemptOutcome) -> bool:
    """Whether the service certainly did not act on the request: not connected, or answered with a refusal.

    408 is a refusal by its number, but a gateway sends it for a request that may have gone through.
    """
    if isinstance(outcome, httpx.Response):
        return 400 <= outcome.status_code < 500 and outcome.status_code != 408
    return isinstance(outcome, _NEVER_ARRIVED)


def _may_repeat(idempotent: bool, outcome: AttemptOutcome) -> bool:
    if isinstance(outcome, httpx.Response):
        repeatable = outcome.is_success or outcome.status_code >= 500
        return outcome.status_code == 429 or (idempotent and repeatable)
    return idempotent or never_arrived(outcome)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that a `Retry-After` header asks to wait: a number or an HTTP date; None without a usable one."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None
