"""The resource: one Scrape.do account, as Dagster configures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from scrapedo_dagster.api import DEFAULT_BASE_URL

# Imported where they are used: a code location that only defines assets needs neither SQLAlchemy nor an HTTP client.
if TYPE_CHECKING:
    from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.inbox.address import Webhook
    from scrapedo_dagster.engine.inbox.protocol import Inbox
    from scrapedo_dagster.engine.ledger.ledger import Ledger

_SECRETS = ("api_token", "ledger_url", "webhook_secret", "webhook_inbox")
_SHORT_TIMEOUT = 2.0


class ScrapeDoResource(dg.ConfigurableResource[Any]):
    """A Scrape.do account. Give it the resource key `scrape_do`.

    ```python
    dg.Definitions(resources={"scrape_do": ScrapeDoResource(api_token=dg.EnvVar("SCRAPE_DO_API_KEY"))})
    ```

    Nothing is connected before a client is made, and clients are made in the process that uses them.
    """

    # Pydantic would print the whole input of a failed rule, the token included.
    model_config = ConfigDict(hide_input_in_errors=True)

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
    max_concurrency: int = Field(
        default=64,
        ge=1,
        description=(
            "Results that are fetched at once, at most: while Scrape.do answers 429 or not in time, it is fewer."
        ),
    )

    ledger_url: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description=(
            "Where submissions are recorded, as a SQLAlchemy URL. By default a SQLite file under the Dagster home, "
            "which suits one machine; give `postgresql+psycopg://...`, as `dg.EnvVar(...)`, where runs start on others."
        ),
    )
    webhook_url: str | None = Field(
        default=None,
        description=(
            "Where Scrape.do reaches `scrapedo-dagster webhooks`, such as https://hooks.example.com: it then delivers "
            "each result there as it ends. By default results are polled for. Needs webhook_secret."
        ),
    )
    webhook_secret: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="What the receiver knows Scrape.do by: 24 or more letters and digits, as `dg.EnvVar(...)`.",
    )
    webhook_inbox: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description=(
            "Where the receiver stores what was delivered: its --inbox, a path or a URI of any filesystem that pyarrow "
            "knows; as `dg.EnvVar(...)` where it has credentials. By default the ledger's database."
        ),
    )
    _ledger: Ledger | None = PrivateAttr(default=None)
    _inbox: Inbox | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _webhook_is_whole(self) -> ScrapeDoResource:
        if (self.webhook_url is None) != (self.webhook_secret is None):
            given, missing = ("webhook_url", "webhook_secret")[:: -1 if self.webhook_url is None else 1]
            raise ValueError(f"{given} is given without {missing}: a webhook needs both. Give {missing}, or neither.")
        return self

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Dagster's hook: find the ledger. It is opened on first use."""
        from scrapedo_dagster.engine.ledger.ledger import Ledger
        from scrapedo_dagster.engine.ledger.url import default_url, is_on_this_machine, parse_url

        if masked := [name for name in _SECRETS if (value := getattr(self, name)) and set(value) == {"*"}]:
            raise dg.DagsterInvariantViolationError(
                f"The run config gives ScrapeDoResource asterisks for {', '.join(masked)}: Dagster's Launchpad writes "
                "them in place of secrets. Delete `resources:` from the run config, and what the code says is used."
            )
        if self.ledger_url is not None:
            url = parse_url(self.ledger_url)
        elif context.instance is not None:
            url = default_url(context.instance.root_directory)
        else:
            raise dg.DagsterInvariantViolationError("ScrapeDoResource needs a Dagster instance, or a ledger_url.")
        if context.instance is not None and is_on_this_machine(url):
            _check_that_runs_stay_here(context.instance)
        self._ledger, self._inbox = Ledger(url), None

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Dagster's hook: close what was opened."""
        if self._ledger is not None:
            self._ledger.close()

    @property
    def ledger(self) -> Ledger:
        """The ledger, inside a run."""
        if self._ledger is None:
            raise dg.DagsterInvariantViolationError(
                "The ledger is known only while Dagster has initialised the resource: inside a run, or in "
                "`with resource.process_config_and_initialize_cm() as resource:`."
            )
        return self._ledger

    @property
    def account(self) -> str:
        """How the ledger calls this account: a fingerprint of the token."""
        from scrapedo_dagster.engine.ledger.records import account_fingerprint

        return account_fingerprint(self.api_token)

    @property
    def webhook(self) -> Webhook | None:
        """Where results are delivered to, if anywhere. WebhookError if the URL or the secret cannot be used."""
        from scrapedo_dagster.engine.inbox.address import Webhook

        if self.webhook_url is None or self.webhook_secret is None:
            return None
        return Webhook(self.webhook_url, self.webhook_secret)

    @property
    def inbox(self) -> Inbox | None:
        """What was delivered, inside a run; None without a webhook. ValueError if its place cannot be used."""
        from scrapedo_dagster.engine.inbox.opening import open_inbox

        if self._inbox is None and self.webhook_url is not None:
            self._inbox = open_inbox(self.webhook_inbox, self.ledger, for_reading=True)
        return self._inbox

    def client(self) -> ScrapeDoAsyncAPIClient:
        """A blocking client of this account; use it in a `with` statement."""
        from scrapedo_dagster.api import ScrapeDoAsyncAPIClient

        return ScrapeDoAsyncAPIClient(**self._client_settings())

    def async_client(self) -> AsyncScrapeDoAsyncAPIClient:
        """An asyncio client of this account; use it in an `async with` statement."""
        from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient

        return AsyncScrapeDoAsyncAPIClient(**self._client_settings())

    def short_timeout_client(self, timeout: float = _SHORT_TIMEOUT) -> ScrapeDoAsyncAPIClient:
        """A blocking client that soon gives up: for an interrupt, or a sensor's tick, that must end in time."""
        from scrapedo_dagster.api import Backoff, RetryPolicy, ScrapeDoAsyncAPIClient

        timeout = min(self.request_timeout, timeout)
        retry = RetryPolicy(attempts=2, backoff=Backoff(initial=0.2), max_retry_after=1.0)
        return ScrapeDoAsyncAPIClient(**self._client_settings() | {"timeout": timeout, "retry": retry})

    def _client_settings(self) -> dict[str, Any]:
        from scrapedo_dagster.api import RetryPolicy

        return {
            "api_token": self.api_token,
            "base_url": self.base_url,
            "timeout": self.request_timeout,
            "retry": RetryPolicy(attempts=self.max_attempts),
            "max_concurrency": self.max_concurrency,
        }


def _check_that_runs_stay_here(instance: dg.DagsterInstance) -> None:
    launcher = type(instance.run_launcher)
    if not launcher.__module__.startswith("dagster._core."):
        raise dg.DagsterInvariantViolationError(
            f"This deployment starts its runs with {launcher.__name__}, perhaps on other machines, and the ledger of "
            "ScrapeDoResource is a file on this one: two runs could submit, and pay for, the same targets. Nothing was "
            "submitted. Give ScrapeDoResource a `ledger_url` that all machines reach, such as "
            "postgresql+psycopg://..., as dg.EnvVar(...)."
        )
