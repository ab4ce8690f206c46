"""ScrapeDoResource: one Scrape.do account, configured in Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from scrapedo_dagster.api import DEFAULT_BASE_URL
from scrapedo_dagster.api.requests import check_service_url

# Imported where they are used: a code location that only defines assets needs neither SQLAlchemy nor an HTTP client.
if TYPE_CHECKING:
    from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
    from scrapedo_dagster.engine.inbox.inbox import Inbox
    from scrapedo_dagster.engine.ledger.ledger import Ledger
    from scrapedo_dagster.engine.webhook_address import Webhook

_SECRET: dict[str, Any] = {"dagster__is_secret": True}
_VARIABLES = (dg.EnvVar, type(dg.EnvVar.int("NAME")))

HttpUrl = Annotated[str, AfterValidator(check_service_url)]


class ScrapeDoResource(dg.ConfigurableResource[Any]):
    """A Scrape.do account. Give it the resource key `scrape_do`.

    ```python
    dg.Definitions(resources={"scrape_do": ScrapeDoResource(api_token=dg.EnvVar("SCRAPE_DO_API_KEY"))})
    ```

    Every field takes a value, or `dg.EnvVar(...)` (`dg.EnvVar.int(...)` for numbers). Secrets belong in environment
    variables: Dagster stores literal values in plain text in the snapshot of the code location.

    Nothing connects before a client is created, and each process creates its own clients.
    """

    # Pydantic would print the whole input of a failed rule, the token included.
    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={
            "dependentRequired": {"webhook_url": ["webhook_secret"], "webhook_secret": ["webhook_url"]},
        },
    )

    api_token: str = Field(repr=False, json_schema_extra=_SECRET, description="The Scrape.do API token.")
    base_url: HttpUrl = Field(default=DEFAULT_BASE_URL, description="URL of the Async API, or of an emulator.")
    request_timeout: int = Field(
        default=30, ge=1, description="Timeout of a request in seconds: to connect, and for each read."
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        description=(
            "Maximum number of attempts per request. A job submission is repeated only if it provably did not arrive."
        ),
    )
    max_concurrency: int = Field(
        default=64,
        ge=1,
        description=(
            "Maximum number of results fetched at once. Fewer are fetched while Scrape.do answers 429 or times out."
        ),
    )

    ledger_url: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra=_SECRET,
        description=(
            "SQLAlchemy URL of the ledger, such as `postgresql+psycopg://...`. The default is a SQLite file in the "
            "Dagster home, which suits a deployment on one machine."
        ),
    )
    webhook_url: HttpUrl | None = Field(
        default=None,
        description=(
            "Public URL of `scrapedo-dagster webhooks`, such as https://hooks.example.com, to which Scrape.do delivers "
            "each result. Requires webhook_secret. By default, jobs are polled."
        ),
    )
    webhook_secret: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra=_SECRET,
        description="Secret that authenticates deliveries: 24 or more letters and digits.",
    )
    _ledger: Ledger | None = PrivateAttr(default=None)

    @field_validator("*", mode="wrap")
    @classmethod
    def _keep_variable(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        """Keep an EnvVar of any field for Dagster, which validates its value when the resource is initialized."""
        return value if isinstance(value, _VARIABLES) else validate(value)

    @model_validator(mode="after")
    def _check_webhook(self) -> ScrapeDoResource:
        if (self.webhook_url is None) != (self.webhook_secret is None):
            given, missing = ("webhook_url", "webhook_secret")[:: -1 if self.webhook_url is None else 1]
            raise ValueError(f"{given} is set without {missing}. Set both, or neither.")
        return self

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Locate the ledger, which connects on first use. Called by Dagster."""
        from scrapedo_dagster.engine.ledger.ledger import Ledger
        from scrapedo_dagster.engine.ledger.url import default_url, is_on_this_machine, parse_url

        if masked := [name for name in secret_fields(type(self)) if set(getattr(self, name) or "") == {"*"}]:
            raise dg.DagsterInvariantViolationError(
                f"ScrapeDoResource: the run config sets {', '.join(masked)} to asterisks, which the Launchpad shows in "
                "place of secrets. Delete `resources:` from the run config to use the values of the code location."
            )
        if self.ledger_url is not None:
            url = parse_url(self.ledger_url)
        elif context.instance is not None:
            url = default_url(context.instance.root_directory)
        else:
            raise dg.DagsterInvariantViolationError("ScrapeDoResource needs a Dagster instance or a ledger_url.")
        if context.instance is not None and is_on_this_machine(url):
            _check_run_launcher(context.instance)
        self._ledger = Ledger(url)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections of the ledger. Called by Dagster."""
        if self._ledger is not None:
            self._ledger.close()

    @property
    def ledger(self) -> Ledger:
        """The ledger. Available while Dagster has the resource initialized."""
        if self._ledger is None:
            raise dg.DagsterInvariantViolationError(
                "ScrapeDoResource is not initialized, so it has no ledger. Use it inside a run, or in "
                "`with resource.process_config_and_initialize_cm() as resource:`."
            )
        return self._ledger

    @property
    def account(self) -> str:
        """Fingerprint of the token, which identifies the account in the ledger."""
        from scrapedo_dagster.engine.ledger.records import account_fingerprint

        return account_fingerprint(self.api_token)

    @property
    def webhook(self) -> Webhook | None:
        """The receiver of deliveries, or None. Raises WebhookError if the URL or the secret is invalid."""
        from scrapedo_dagster.engine.webhook_address import Webhook

        if self.webhook_url is None or self.webhook_secret is None:
            return None
        return Webhook(self.webhook_url, self.webhook_secret)

    @property
    def inbox(self) -> Inbox | None:
        """Stored deliveries, or None without a webhook. Available like `ledger`."""
        from scrapedo_dagster.engine.inbox.inbox import Inbox

        return None if self.webhook_url is None else Inbox(self.ledger)

    def client(self) -> ScrapeDoAsyncAPIClient:
        """Return a blocking client; use it in a `with` statement."""
        from scrapedo_dagster.api import ScrapeDoAsyncAPIClient

        return ScrapeDoAsyncAPIClient(**self._client_settings())

    def async_client(self) -> AsyncScrapeDoAsyncAPIClient:
        """Return an asyncio client; use it in an `async with` statement."""
        from scrapedo_dagster.api import AsyncScrapeDoAsyncAPIClient

        return AsyncScrapeDoAsyncAPIClient(**self._client_settings())

    def short_timeout_client(self, timeout: float = 2.0) -> ScrapeDoAsyncAPIClient:
        """Return a blocking client for interrupt handlers and sensor ticks, which have little time.

        Args:
            timeout: seconds per request, at most `request_timeout`. A request has two attempts.
        """
        from scrapedo_dagster.api import Backoff, RetryPolicy, ScrapeDoAsyncAPIClient

        retry = RetryPolicy(attempts=2, backoff=Backoff(initial=0.2), max_retry_after=1.0)
        return ScrapeDoAsyncAPIClient(
            **self._client_settings() | {"timeout": min(self.request_timeout, timeout), "retry": retry}
        )

    def _client_settings(self) -> dict[str, Any]:
        from scrapedo_dagster.api import RetryPolicy

        return {
            "api_token": self.api_token,
            "base_url": self.base_url,
            "timeout": self.request_timeout,
            "retry": RetryPolicy(attempts=self.max_attempts),
            "max_concurrency": self.max_concurrency,
        }


def secret_fields(resource: type[dg.ConfigurableResource[Any]]) -> list[str]:
    """Return the names of a resource's fields that hold secrets."""
    extras = {name: field.json_schema_extra for name, field in resource.model_fields.items()}
    return [name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("dagster__is_secret")]


def _check_run_launcher(instance: dg.DagsterInstance) -> None:
    """Raise if runs may start on other machines, where the file of the ledger does not exist."""
    launcher = type(instance.run_launcher)
    if not launcher.__module__.startswith("dagster._core."):
        raise dg.DagsterInvariantViolationError(
            f"ScrapeDoResource: {launcher.__name__} may start runs on other machines, but the ledger is a file on this "
            "one, so two runs could submit and pay for the same targets. Nothing was submitted. Set `ledger_url` to a "
            "database that all machines reach, such as postgresql+psycopg://..., as dg.EnvVar(...)."
        )
