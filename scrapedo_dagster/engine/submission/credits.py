"""What the account can still spend, and what a target costs."""

from __future__ import annotations

from dataclasses import dataclass

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock


@dataclass
class CreditBalance:
    """Cached balance of an account, less what was reserved since the last request. Mutable.

    Attributes:
        available: credits, or None before the first request and if the service does not report them.
        requested_at: time of the last request, by the clock.
        max_age: seconds that an answer is used; others spend the account's credits too.
    """

    available: int | None = None
    requested_at: float = 0.0
    max_age: float = 10.0
    clock: Clock = SYSTEM_CLOCK

    def reserve(self, estimate: int, client: ScrapeDoAsyncAPIClient) -> int | None:
        """Subtract credits, and return how many there were before. None if that is not known.

        A cached balance below the estimate is requested again first.

        Raises:
            ScrapeDoError: the service refused or did not answer.
        """
        if not estimate:
            return None
        age = self.clock.monotonic() - self.requested_at
        if self.available is None or estimate > self.available or age > self.max_age:
            self.available, self.requested_at = client.get_user_info().available_credits, self.clock.monotonic()
        before = self.available
        if before is not None:
            self.available = before - estimate
        return before


def credits_per_target(options: ScrapeOptions) -> int:
    """Return the credits of one request by the price list; some domains cost more."""
    if options.render is not None:
        return 25 if options.super else 5
    return 10 if options.super else 1
