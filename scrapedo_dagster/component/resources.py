"""The resources of a component: the account, by the names of environment variables, and the storage."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any

import dagster as dg
from pydantic import AfterValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

from scrapedo_dagster.api import DEFAULT_BASE_URL
from scrapedo_dagster.api.requests import check_target
from scrapedo_dagster.component.schema import ComponentModel, refused
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource

_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "hf")  # asking pyarrow would load it
_LENGTH_OF_TOKENS = 24  # characters, at least


def _check_variable(name: str) -> str:
    # What was given is not repeated: it may be a token. These are long, in small letters and without underscores.
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or (len(name) >= _LENGTH_OF_TOKENS and "_" not in name):
        raise ValueError(
            "this must be the name of an environment variable, in capitals, such as SCRAPE_DO_API_KEY, not its value. "
            "Nor a template: Dagster would store what it stands for in plain text"
        )
    return name


def _check_place(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    if separator and scheme not in _SCHEMES and not scheme.startswith("fsspec+"):
        raise ValueError(
            f"{scheme}:// is no filesystem that pyarrow knows: give a path, or one of {', '.join(_SCHEMES)}"
        )
    return uri


VariableName = Annotated[str, AfterValidator(_check_variable)]


def _default(name: str) -> Any:
    return ScrapeDoResource.model_fields[name].default


class Resources(ComponentModel):
    """The resources `scrape_do` and `scrape_do_parquet`, for the whole project."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentRequired": {
                "webhook_url": ["webhook_secret_variable"],
                "webhook_secret_variable": ["webhook_url"],
            }
        }
    )

    token_variable: VariableName = "SCRAPE_DO_API_KEY"  # noqa: S105 - a name
    """The name of the environment variable with the Scrape.do token."""
    storage: Annotated[str, AfterValidator(_check_place)] = Field(min_length=1)
    """Where the tables are: a path, or a URI of any filesystem that pyarrow knows, such as s3://bucket/scraped."""
    base_url: Annotated[str, AfterValidator(check_target)] = DEFAULT_BASE_URL
    """The service, or an emulator of it."""
    request_timeout: float = Field(default=_default("request_timeout"), gt=0)
    """Seconds to wait for each piece of an answer, and to connect."""
    max_attempts: int = Field(default=_default("max_attempts"), ge=1)
    """How often a request is sent at most."""
    max_concurrency: int = Field(default=_default("max_concurrency"), ge=1)
    """Results that are fetched at once, at most."""
    ledger_url_variable: VariableName | None = None
    """The name of the environment variable with the ledger's URL; by default it is a file in the Dagster home."""
    webhook_url: Annotated[str, AfterValidator(check_target)] | None = None
    """Where Scrape.do reaches `scrapedo-dagster webhooks`; by default results are polled for."""
    webhook_secret_variable: VariableName | None = None
    """The name of the environment variable with the secret that the receiver knows Scrape.do by."""
    webhook_inbox: str | None = None
    """Where the receiver stores what was delivered; by default the ledger's database."""

    @model_validator(mode="after")
    def _webhook_is_whole(self) -> Self:
        both = {"webhook_url": self.webhook_url, "webhook_secret_variable": self.webhook_secret_variable}
        missing = [name for name, value in both.items() if value is None]
        if len(missing) == 1:
            [given] = both.keys() - missing
            raise refused(self, {(given,): f"a webhook needs {missing[0]} as well: give both, or neither"})
        return self

    def bound(self) -> dict[str, Any]:
        """The resources by their keys; the same objects for equal settings, since Dagster takes no others twice."""
        account = _account(**self.model_dump(exclude={"storage"}))
        return {"scrape_do": account, "scrape_do_parquet": _storage(self.storage)}


@cache
def _account(
    *,
    token_variable: str,
    base_url: str,
    ledger_url_variable: str | None,
    webhook_url: str | None,
    webhook_secret_variable: str | None,
    webhook_inbox: str | None,
    request_timeout: float,
    max_attempts: int,
    max_concurrency: int,
) -> ScrapeDoResource:
    return ScrapeDoResource(
        api_token=dg.EnvVar(token_variable),
        base_url=base_url,
        ledger_url=dg.EnvVar(ledger_url_variable) if ledger_url_variable else None,
        webhook_url=webhook_url,
        webhook_secret=dg.EnvVar(webhook_secret_variable) if webhook_secret_variable else None,
        webhook_inbox=webhook_inbox,
        request_timeout=request_timeout,
        max_attempts=max_attempts,
        max_concurrency=max_concurrency,
    )


@cache
def _storage(base_uri: str) -> ScrapeDoParquetIOManager:
    return ScrapeDoParquetIOManager(base_uri=base_uri)
