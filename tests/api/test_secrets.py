"""Headers, cookies, bodies and typed values may be secrets, and are never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scrapedo_dagster.api import FillAction, JobRequest, RenderOptions, ScrapeOptions

CANARY = "cAnArY-7f3a"
NUMBER = 73_137_313  # a PIN, given as a number where a text is wanted
TARGET = "https://example.com/a"

# A secret as it should be given, and in every wrong shape: in a list, as bytes, as a key, deep inside.
WRAPPED = st.recursive(
    st.sampled_from([CANARY, f"x{CANARY}y", CANARY.encode(), f"{CANARY}=1; b=2", NUMBER, NUMBER / 7]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "Authorization", CANARY, 5]), inner, min_size=1, max_size=2)
        | st.tuples(inner, st.none() | st.integers())
    ),
    max_leaves=4,
)
SECRET_FIELDS = ["headers", "set_cookies", "body", "webhook_headers"]
WIRE_NAMES = ["Headers", "SetCookies", "Body", "WebhookHeaders"]
SLIPS = ["header", "set_cookie", "Cookies", "webhook_header"]
SECRETS = st.fixed_dictionaries({}, optional=dict.fromkeys(SECRET_FIELDS + WIRE_NAMES + SLIPS, WRAPPED))
OTHER_TROUBLE = st.fixed_dictionaries(
    {},
    optional={
        "targets": st.sampled_from([[TARGET], [], ["ftp://x"], None, "text"]),
        "timeout": st.sampled_from([1, "soon", 6000]),
        "geo_code": st.sampled_from(["us", "usa", 5]),
        "regional_geo_code": st.just("europe"),
        "retry_timeout": st.just(6000),
        "unknown": st.just(1),
        "plugin": st.sampled_from([{"key": "google/search", "params": [{}]}, 5]),
    },
)
FILLS = st.builds(
    lambda value, more, name: {"action": "Fill", "selector": "#password", name: value, **more},
    WRAPPED,
    st.sampled_from([{}, {"selector": ""}, {"timeout": 5}]),
    st.sampled_from(["value", "Value", "text"]),
)


def everything_shown_of(error: BaseException) -> Iterator[str]:
    link: BaseException | None = error
    while link is not None:
        yield from (str(link), repr(link), repr(link.args))
        link = link.__cause__ or link.__context__
    assert isinstance(error, ValidationError)
    yield repr(error.errors())
    yield error.json()


def assert_hidden(build: Callable[[], Any]) -> None:
    shown: list[str] = []
    try:
        made = build()
        shown += [repr(made), str(made)]
    except ValidationError as error:
        shown += everything_shown_of(error)
    assert not [text for text in shown if any(secret in text for secret in (CANARY, str(NUMBER), str(NUMBER / 7)))]


@given(SECRETS, OTHER_TROUBLE, st.none() | FILLS)
def test_secret_is_never_shown_in_validation_errors(
    secrets: dict[str, Any], trouble: dict[str, Any], fill: dict[str, Any] | None
) -> None:
    render = {} if fill is None else {"render": {"play_with_browser": [fill], "screenshot": True}}
    options = {"targets": [TARGET], **trouble, **secrets, **render}
    assert_hidden(lambda: JobRequest.model_validate(options))
    assert_hidden(lambda: ScrapeOptions.model_validate({k: v for k, v in options.items() if k != "targets"}))


@given(FILLS)
def test_value_that_is_typed_in_is_never_shown(fill: dict[str, Any]) -> None:
    assert_hidden(lambda: FillAction.model_validate(fill))
    assert_hidden(lambda: RenderOptions(play_with_browser=[fill]))


def test_secret_in_json_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        JobRequest.model_validate_json('{"Headers": {"A": "' + CANARY + '"')
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_broken_rule_about_secrets_does_not_show_them() -> None:
    with pytest.raises(ValidationError, match="headers cannot be combined with set_cookies") as caught:
        JobRequest(targets=[TARGET], headers={"Cookie": CANARY}, set_cookies=f"a={CANARY}")
    assert all(CANARY not in text for text in everything_shown_of(caught.value))


def test_secret_is_sent() -> None:
    request = JobRequest(
        targets=[TARGET],
        headers={"Authorization": CANARY},
        body=CANARY,
        webhook_headers={"X-Secret": CANARY},
        render=RenderOptions(play_with_browser=[FillAction(selector="#password", value=CANARY)]),
    )
    assert str(request.to_wire()).count(CANARY) == 4
    assert CANARY not in repr(request)
