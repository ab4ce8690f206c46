"""Browser actions of `Render.PlayWithBrowser`: the ten documented ones, and `CustomAction` for newer ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, JsonValue, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from scrapedo_dagster.api.request_model import RequestModel

Selector = Annotated[str, Field(min_length=1)]
Milliseconds = Annotated[int, Field(ge=0)]


class ClickAction(RequestModel):
    """Click the element that matches a CSS selector."""

    action: Literal["Click"] = "Click"
    selector: Selector


class WaitAction(RequestModel):
    """Wait for `timeout` milliseconds."""

    action: Literal["Wait"] = "Wait"
    timeout: Milliseconds


class WaitSelectorAction(RequestModel):
    """Wait until an element appears, at most `timeout` milliseconds."""

    action: Literal["WaitSelector"] = "WaitSelector"
    wait_selector: Selector
    timeout: Milliseconds | None = None


class ScrollXAction(RequestModel):
    """Scroll horizontally by `value` pixels."""

    action: Literal["ScrollX"] = "ScrollX"
    value: int


class ScrollYAction(RequestModel):
    """Scroll vertically by `value` pixels."""

    action: Literal["ScrollY"] = "ScrollY"
    value: int


class ScrollToAction(RequestModel):
    """Scroll until the element is visible."""

    action: Literal["ScrollTo"] = "ScrollTo"
    selector: Selector


class FillAction(RequestModel):
    """Type `value` into an input element. Errors never show the value: it may be a password."""

    secret_fields = frozenset({"value"})

    action: Literal["Fill"] = "Fill"
    selector: Selector
    value: str = Field(repr=False)


class ExecuteAction(RequestModel):
    """Run JavaScript in the page."""

    action: Literal["Execute"] = "Execute"
    execute: Annotated[str, Field(min_length=1)]


class ScreenShotAction(RequestModel):
    """Take a screenshot of the viewport, of the full page, or of one element."""

    action: Literal["ScreenShot"] = "ScreenShot"
    full_screenshot: bool | None = Field(default=None, alias="fullScreenShot")
    particular_screenshot: Selector | None = Field(default=None, alias="particularScreenShot")

    def broken_rules(self) -> Iterator[str]:
        if self.full_screenshot and self.particular_screenshot:
            yield (
                f"full_screenshot=True and particular_screenshot={self.particular_screenshot!r} "
                "cannot be combined: use two ScreenShot actions"
            )


class WaitForRequestCompletionAction(RequestModel):
    """Wait until requests whose URL matches the pattern are complete, at most `timeout` milliseconds."""

    action: Literal["WaitForRequestCompletion"] = "WaitForRequestCompletion"
    url_pattern: Annotated[str, Field(min_length=1)]
    timeout: Milliseconds


class CustomAction(RequestModel):
    """An action that this release does not know, sent unchecked as `{"Action": name, **arguments}`.

    `CustomAction(name="Hover", arguments={"Selector": "#menu"})`
    """

    action: Literal["Custom"] = "Custom"
    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        return {"Action": self.name, **self.arguments} if info.by_alias else handler(self)


BrowserAction: TypeAlias = Annotated[
    ClickAction
    | WaitAction
    | WaitSelectorAction
    | ScrollXAction
    | ScrollYAction
    | ScrollToAction
    | FillAction
    | ExecuteAction
    | ScreenShotAction
    | WaitForRequestCompletionAction
    | CustomAction,
    Field(discriminator="action"),
]
"""Any browser action; the field `action` (`Action` in JSON) selects the type."""
