"""What an account can still spend, without asking for it before each of many partitions."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scrapedo_dagster.api.client import ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.requests import ScrapeOptions

_TRUSTED_FOR = 10.0  # seconds; others use the account too


@dataclass
class CreditBalance:
    """The credits of one account. What was set aside since the service was asked last is taken from its answer."""

    left: int | None = None
    asked_at: float = 0.0

    def reserve(self, estimate: int, client: ScrapeDoAsyncAPIClient) -> int | None:
        """Take so many credits from it. What there was before; None if the service does not tell.

        That credits are lacking is never concluded but from a new answer.

        Raises:
            ScrapeDoError: the service could not be asked.
        """
        if not estimate:
            return None
        if self.left is None or estimate > self.left or time.monotonic() - self.asked_at > _TRUSTED_FOR:
            self.left, self.asked_at = client.get_user_info().available_credits, time.monotonic()
        before = self.left
        if before is not None:
            self.left = before - estimate
        return before


def credits_per_target(options: ScrapeOptions) -> int:
    """Credits a request costs by the price list; some domains cost more."""
    if options.render is not None:
        return 25 if options.super else 5
    return 10 if options.super else 1
