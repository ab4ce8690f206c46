"""Request models of the Async API, validated on construction.

Field names are those of the service in snake_case. An option that is not set is not sent, so that the default of the
service applies. Rules and ranges are those of Scrape.do's documentation of POST /api/v1/jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, field_serializer, field_validator

from scrapedo_dagster.api.browser_actions import BrowserAction
from scrapedo_dagster.api.plugins import PluginRequest
from scrapedo_dagster.api.request_model import RequestModel

DEFAULT_BASE_URL = "https://q.scrape.do"
"""URL of the service."""

MAX_TARGETS = 1000
"""Maximum number of targets of one job, as documented by Scrape.do."""

JobStatus: TypeAlias = Literal["queuing", "queued", "pending", "rotating", "success", "error", "canceled"]


def check_target(url: str) -> str:
    """Return the URL if it is an absolute http or https URL.

    Raises:
        ValueError: it is not; the message contains the URL and the reason.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError(f"{url!r} contains white space or control characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port validates it
    except ValueError as error:
        raise ValueError(f"{url!r} is not a valid URL: {error}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{url!r} is not an http or https URL")
    if not host:
        raise ValueError(f"{url!r} has no host")
    return url


_CREDENTIALS_AND_QUERY = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)


def redact_url(url: str) -> str:
    """Return the URL without credentials, query and fragment, for messages."""
    return _CREDENTIALS_AND_QUERY.sub("", url)


def check_service_url(url: str) -> str:
    """Return the URL of a service if it is an absolute http or https URL.

    Raises:
        ValueError: it is not; the message shows neither its credentials nor its query.
    """
    try:
        return check_target(url)
    except ValueError as error:
        raise ValueError(str(error).replace(repr(url), repr(redact_url(url)))) from None


TargetURL = Annotated[str, AfterValidator(check_target)]


class RenderOptions(RequestModel):
    """Turn the browser on. `RenderOptions()` renders with the service's defaults. Rendering costs more credits."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    block_resources: bool | None = None
    """Do not load images, styles and fonts. Not with screenshots or `play_with_browser`."""
    wait_until: Literal["domcontentloaded", "networkidle0", "networkidle2", "load"] | None = None
    """The event that the page has to reach."""
    custom_wait: Annotated[int, Field(ge=0, le=35_000)] | None = None
    """Milliseconds to wait after that event, 0 to 35000."""
    wait_selector: Annotated[str, Field(min_length=1)] | None = None
    """A CSS selector to wait for."""
    play_with_browser: tuple[BrowserAction, ...] | None = None
    """Actions in the browser, in their order, such as {Action: Click, Selector: '#more'}."""
    return_json: bool | None = Field(default=None, alias="ReturnJSON")
    """Return a JSON document with the page and everything else that was asked for."""
    show_websocket_requests: bool | None = None
    """Include the page's WebSocket requests. Needs `return_json`."""
    show_frames: bool | None = None
    """Include the page's frames. Needs `return_json`."""
    screenshot: bool | None = None
    """Take a screenshot of the visible part of the page. Needs `return_json`; one kind of screenshot only."""
    full_screenshot: bool | None = None
    """Take a screenshot of the whole page. Needs `return_json`; one kind of screenshot only."""
    particular_screenshot: Annotated[str, Field(min_length=1)] | None = None
    """Take a screenshot of the element of this CSS selector. Needs `return_json`; one kind of screenshot only."""

    def broken_rules(self) -> Iterator[str]:
        screenshots = [
            f"{name}={value!r}"
            for name in ("screenshot", "full_screenshot", "particular_screenshot")
            if (value := getattr(self, name))
        ]
        enveloped = screenshots + [
            f"{name}=True" for name in ("show_frames", "show_websocket_requests") if getattr(self, name)
        ]
        if len(screenshots) > 1:
            yield f"{', '.join(screenshots)}: only one kind of screenshot can be taken of a page"
        if enveloped and not self.return_json:
            yield f"{', '.join(enveloped)} needs return_json=True, since it comes inside the JSON envelope"
        if self.block_resources and screenshots:
            yield f"block_resources=True cannot be combined with {', '.join(screenshots)}"
        if self.block_resources and self.play_with_browser:
            yield "block_resources=True cannot be combined with play_with_browser"
        if self.particular_screenshot and self.play_with_browser:
            yield (
                f"particular_screenshot={self.particular_screenshot!r} cannot be combined with play_with_browser: "
                "use a ScreenShot action there"
            )


class ScrapeOptions(RequestModel):
    """How targets are scraped: a `JobRequest` without its targets, which is what a dataset is configured with.

    `headers`, `set_cookies`, `body` and `webhook_headers` may hold secrets: no repr or message contains them.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    secret_fields = frozenset({"headers", "set_cookies", "body", "webhook_headers"})

    method: Literal["GET", "POST", "PUT", "PATCH", "HEAD", "DELETE"] | None = None
    """HTTP method; GET if left out."""
    body: str | None = Field(default=None, repr=False)
    """Request body, sent to every target."""
    geo_code: str | None = None
    """Country of the proxy: two letters, such as us (ISO 3166-1 alpha-2). Not with `regional_geo_code`."""
    regional_geo_code: Literal["europe", "asia", "africa", "oceania", "northamerica", "southamerica"] | None = None
    """Region of the proxy. Needs `super`."""
    super: bool | None = None
    """Use residential and mobile proxies, which cost more credits."""
    headers: dict[str, str] | None = Field(default=None, repr=False)
    """Headers of each request. Not with `set_cookies`."""
    forward_headers: bool | None = None
    """Send the given headers only, without the service's own."""
    session_id: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(default=None, alias="SessionID")
    """Requests of one session have one IP address: 0 to 1000000."""
    device: Literal["desktop", "mobile", "tablet"] | None = None
    """The device that the requests seem to come from; desktop if left out."""
    set_cookies: str | None = Field(default=None, repr=False)
    """Cookies, such as a=1; b=2. Not with `headers`."""
    timeout: Annotated[int, Field(ge=5_000, le=120_000)] | None = None
    """Milliseconds for each target, 5000 to 120000; 60000 if left out."""
    retry_timeout: Annotated[int, Field(ge=5_000, le=55_000)] | None = None
    """Milliseconds for each attempt at a target, 5000 to 55000; 15000 if left out. Not with `render`."""
    disable_retry: bool | None = None
    """Make one attempt only."""
    transparent_response: bool | None = None
    """Return the target's answer as it is, errors included."""
    disable_redirection: bool | None = None
    """Do not follow redirects."""
    output: Literal["raw", "markdown"] | None = None
    """Return the page as it is, or as Markdown; raw if left out."""
    webhook_url: TargetURL | None = Field(default=None, alias="WebhookURL")
    """URL to which Scrape.do sends each task as it ends."""
    webhook_headers: dict[str, str] | None = Field(default=None, repr=False)
    """Headers of the requests to `webhook_url`."""
    render: RenderOptions | None = None
    """Turn the browser on; {} renders with the service's defaults. It costs more credits."""

    @field_validator("geo_code")
    @classmethod
    def _lower_case(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not (len(value) == 2 and value.isascii() and value.isalpha()):
            raise ValueError(f"{value!r} is not a country code of two letters (ISO 3166-1 alpha-2), such as 'us'")
        return value.lower()

    @field_serializer("session_id", when_used="json-unless-none")
    def _session_id_goes_out_as_text(self, value: int) -> str:
        return str(value)

    def broken_rules(self) -> Iterator[str]:
        if self.geo_code and self.regional_geo_code:
            yield (f"geo_code={self.geo_code!r} cannot be combined with regional_geo_code={self.regional_geo_code!r}")
        if self.regional_geo_code and not self.super:
            yield f"regional_geo_code={self.regional_geo_code!r} needs super=True"
        if self.headers and self.set_cookies:
            yield "headers cannot be combined with set_cookies: put the cookies into a Cookie header"
        if self.render is not None and self.retry_timeout is not None:
            yield f"retry_timeout={self.retry_timeout} cannot be combined with render"

    def job(self, targets: Iterable[str]) -> JobRequest:
        """Return a job request with these options and 1 to 1000 targets."""
        options = {name: getattr(self, name) for name in ScrapeOptions.model_fields}
        # A single string must not become one target per character: JobRequest rejects it with a clear message.
        return JobRequest(targets=targets if isinstance(targets, str) else tuple(targets), **options)


class JobRequest(ScrapeOptions):
    """Body of POST /api/v1/jobs: exactly one of `targets` (1 to 1000 http or https URLs) and `plugin`.

    Each target, or each entry of the plugin's `params`, becomes one task, duplicates included.
    `JobRequest(targets=["https://example.com"], geo_code="us", render=RenderOptions())`
    """

    targets: tuple[TargetURL, ...] | None = None
    plugin: PluginRequest | None = None

    @field_validator("targets")
    @classmethod
    def _amount(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not 1 <= len(value) <= MAX_TARGETS:
            raise ValueError(f"a job takes 1 to {MAX_TARGETS} targets (got {len(value)})")
        return value

    def broken_rules(self) -> Iterator[str]:
        yield from super().broken_rules()
        if (self.targets is None) == (self.plugin is None):
            yield f"a job takes exactly one of targets and plugin (got {'both' if self.targets else 'neither'})"
        for position, entry in enumerate(self.plugin.params if self.plugin and self.geo_code else ()):
            if entry.get("geocode"):
                yield (
                    f"geo_code={self.geo_code!r} cannot be combined with the geocode "
                    f"{entry['geocode']!r} in plugin.params[{position}]"
                )


class JobsQuery(RequestModel):
    """Query of GET /api/v1/jobs. All filters are optional; times must have a time zone.

    `page_size` is 1 to 100 (the default of the service is 10), `page` starts at 1. The service filters by whole
    seconds: `start_from` is rounded down and `start_to` up, so that no job is missed.
    """

    page_size: Annotated[int, Field(ge=1, le=100)] = 100
    page: Annotated[int, Field(ge=1)] = 1
    status: JobStatus | None = None
    start_from: AwareDatetime | None = None
    start_to: AwareDatetime | None = None
    sort: Literal["start_time_desc", "start_time_asc"] | None = None

    def broken_rules(self) -> Iterator[str]:
        if self.start_from and self.start_to and self.start_from > self.start_to:
            yield f"start_from={self.start_from.isoformat()} is after start_to={self.start_to.isoformat()}"

    def to_params(self) -> dict[str, str]:
        """Return the query parameters: lower_snake_case names, times as RFC 3339 in UTC with `T` and `Z`."""
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        if self.start_from:
            values["start_from"] = _rfc3339(self.start_from)
        if self.start_to:
            values["start_to"] = _rfc3339(self.start_to + timedelta(microseconds=999_999))
        return {name: str(value) for name, value in values.items() if value is not None}


def _rfc3339(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
