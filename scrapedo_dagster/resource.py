"""The resource: one Scrape.do account, as Dagster configures it."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field

from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, RetryPolicy, ScrapeDoAsyncAPIClient
from scrapedo_dagster.api.client import DEFAULT_BASE_URL


class ScrapeDoResource(dg.ConfigurableResource[Any]):
    """A Scrape.do account. Give it the resource key `scrape_do`.

    ```python
    dg.Definitions(resources={"scrape_do": ScrapeDoResource(api_token=dg.EnvVar("SCRAPE_DO_API_KEY"))})
    ```

    Nothing is connected before a client is made, and clients are made in the process that uses them.
    """

    api_token: str = Field(
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description=(
            "The Scrape.do token. Give it as `dg.EnvVar(...)`: Dagster stores a literal value in plain text in the "
            "snapshot of the code location."
        ),
    )
    base_url: str = Field(default=DEFAULT_BASE_URL, description="The service, or an emulator of it.")
    request_timeout: float = Field(
        default=30.0, gt=0, description="Seconds to wait for each piece of an answer, and to connect."
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        description=(
            "How often a request is sent at most. A job's submission is sent again only if it provably did not arrive."
        ),
    )
    max_concurrency: int = Field(default=16, ge=1, description="Results that are fetched at once.")

    def client(self) -> ScrapeDoAsyncAPIClient:
        """A blocking client of this account; use it in a `with` statement."""
        return ScrapeDoAsyncAPIClient(**self._client_settings())

    def async_client(self) -> AsyncScrapeDoAsyncAPIClient:
        """An asyncio client of this account; use it in an `async with` statement."""
        return AsyncScrapeDoAsyncAPIClient(**self._client_settings())

    def _client_settings(self) -> dict[str, Any]:
        return {
            "api_token": self.api_token,
            "base_url": self.base_url,
            "timeout": self.request_timeout,
            "retry": RetryPolicy(attempts=self.max_attempts),
            "max_concurrency": self.max_concurrency,
        }
