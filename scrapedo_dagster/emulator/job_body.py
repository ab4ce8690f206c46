"""Validate the body of `POST /jobs`: types, ranges, and rules between fields.

Like the service, it ignores unknown fields and treats null as absent. ApiError 400 names the first mistakes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from scrapedo_dagster.emulator.errors import ApiError
from scrapedo_dagster.emulator.plugins import missing_parameter

_MAX_TASKS: Final = 1000
_MAX_PROBLEMS_SHOWN: Final = 5


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _http_url(value: str) -> str:
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError("is not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("must be an absolute URL that starts with http:// or https://")
    return value


def _session_id(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,7}", value) or int(value) > 1_000_000:
        raise ValueError("must be a string of digits, from 0 to 1000000")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Milliseconds = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class _Model(BaseModel):
    # Strict, as a Go server is: "5000" is not a number.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", alias_generator=_pascal)


class _Click(_Model):
    action: Literal["Click"]
    selector: Text


class _Wait(_Model):
    action: Literal["Wait"]
    timeout: Milliseconds


class _WaitSelector(_Model):
    action: Literal["WaitSelector"]
    wait_selector: Text
    timeout: Milliseconds | None = None


class _Scroll(_Model):
    action: Literal["ScrollX", "ScrollY"]
    value: int


class _ScrollTo(_Model):
    action: Literal["ScrollTo"]
    selector: Text


class _Fill(_Model):
    action: Literal["Fill"]
    selector: Text
    value: str


class _Execute(_Model):
    action: Literal["Execute"]
    execute: Text


class ScreenShot(_Model):
    """`ScreenShot` of PlayWithBrowser: the viewport, the `full` page, or a `particular` element."""

    action: Literal["ScreenShot"]
    full: bool | None = Field(default=None, alias="fullScreenShot")
    particular: Text | None = Field(default=None, alias="particularScreenShot")

    @model_validator(mode="after")
    def _check_one_kind(self) -> ScreenShot:
        if self.full and self.particular:
            raise ValueError("fullScreenShot and particularScreenShot exclude each other")
        return self


class _WaitForRequestCompletion(_Model):
    action: Literal["WaitForRequestCompletion"]
    url_pattern: Text
    timeout: Milliseconds


BrowserAction = Annotated[
    _Click | _Wait | _WaitSelector | _Scroll | _ScrollTo | _Fill | _Execute | ScreenShot | _WaitForRequestCompletion,
    Field(discriminator="action"),
]


class RenderBody(_Model):
    """`Render`; its presence enables the browser."""

    block_resources: bool | None = None
    wait_until: Literal["domcontentloaded", "networkidle0", "networkidle2", "load"] | None = None
    custom_wait: int | None = Field(default=None, ge=0, le=35_000)
    wait_selector: str | None = None
    play_with_browser: list[BrowserAction] | None = None
    return_json: bool | None = Field(default=None, alias="ReturnJSON")
    show_websocket_requests: bool | None = None
    show_frames: bool | None = None
    screenshot: bool | None = None
    full_screenshot: bool | None = None
    particular_screenshot: str | None = None

    @property
    def screenshots(self) -> tuple[str, ...]:
        """Names of the fields that request a screenshot."""
        fields = (
            ("Screenshot", self.screenshot),
            ("FullScreenshot", self.full_screenshot),
            ("ParticularScreenshot", self.particular_screenshot),
        )
        return tuple(name for name, value in fields if value)

    @model_validator(mode="after")
    def _check_rules(self) -> RenderBody:
        if len(self.screenshots) > 1:
            raise ValueError(f"{' and '.join(self.screenshots)} exclude each other")
        needs_json = [*self.screenshots]
        needs_json += ["ShowFrames"] if self.show_frames else []
        needs_json += ["ShowWebsocketRequests"] if self.show_websocket_requests else []
        if needs_json and not self.return_json:
            raise ValueError(f"{needs_json[0]} needs ReturnJSON")
        if self.particular_screenshot and self.play_with_browser:
            raise ValueError("ParticularScreenshot cannot be used with PlayWithBrowser")
        if self.block_resources and (self.screenshots or self.play_with_browser):
            other = self.screenshots[0] if self.screenshots else "PlayWithBrowser"
            raise ValueError(f"BlockResources cannot be used with {other}")
        return self


class PluginBody(_Model):
    """`Plugin`: a key, and one entry of `Params` for each task."""

    key: Text
    params: list[dict[str, Any]] = Field(min_length=1, max_length=_MAX_TASKS)

    @model_validator(mode="after")
    def _check_entries(self) -> PluginBody:
        for position, entry in enumerate(self.params):
            if problem := missing_parameter(self.key, entry):
                raise ValueError(f"Params[{position}]: {problem}")
        return self


class JobBody(_Model):
    """Body of a job with exactly one of `targets` and `plugin`."""

    targets: list[HttpUrl] | None = Field(default=None, min_length=1, max_length=_MAX_TASKS)
    plugin: PluginBody | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "HEAD", "DELETE"] | None = None
    body: str | None = None
    geo_code: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None
    regional_geo_code: Literal["europe", "asia", "africa", "oceania", "northamerica", "southamerica"] | None = None
    super: bool | None = None
    headers: dict[str, str] | None = None
    forward_headers: bool | None = None
    session_id: Annotated[str, AfterValidator(_session_id)] | None = Field(default=None, alias="SessionID")
    device: Literal["desktop", "mobile", "tablet"] | None = None
    set_cookies: str | None = None
    timeout: int | None = Field(default=None, ge=5_000, le=120_000)
    retry_timeout: int | None = Field(default=None, ge=5_000, le=55_000)
    disable_retry: bool | None = None
    transparent_response: bool | None = None
    disable_redirection: bool | None = None
    output: Literal["raw", "markdown"] | None = None
    webhook_url: HttpUrl | None = Field(default=None, alias="WebhookURL")
    webhook_headers: dict[str, str] | None = None
    render: RenderBody | None = None

    @model_validator(mode="after")
    def _check_rules(self) -> JobBody:
        if (self.targets is None) == (self.plugin is None):
            raise ValueError("exactly one of Targets and Plugin is required")
        if self.geo_code and self.regional_geo_code:
            raise ValueError("GeoCode and RegionalGeoCode exclude each other")
        if self.regional_geo_code and not self.super:
            raise ValueError("RegionalGeoCode needs Super")
        if self.headers and self.set_cookies:
            raise ValueError("SetCookies cannot be used with Headers")
        if self.render is not None and self.retry_timeout is not None:
            raise ValueError("RetryTimeout cannot be used with Render")
        if self.plugin is not None and self.geo_code and any("geocode" in p for p in self.plugin.params):
            raise ValueError("GeoCode cannot be used if entries of Plugin.Params have a geocode")
        return self


def parse_job_body(body: Any) -> JobBody:
    """Validate a parsed JSON body. Raises ApiError 400, whose message contains no values."""
    try:
        return JobBody.model_validate(body)
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors(include_input=False, include_url=False)]
    shown = "; ".join(problems[:_MAX_PROBLEMS_SHOWN])
    if len(problems) > _MAX_PROBLEMS_SHOWN:
        shown += f"; and {len(problems) - _MAX_PROBLEMS_SHOWN} more"
    raise ApiError(400, f"Invalid request: {shown}")


def _describe(problem: Any) -> str:
    place = ""
    for step in problem["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
