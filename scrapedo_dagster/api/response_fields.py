"""Field types of responses, each of which accepts every form of its value that the service may send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationError

_ANY_DATETIME: TypeAdapter[datetime] = TypeAdapter(datetime)

_MAX_NUMBER = 10**12  # larger values are wrong; sums of millions of such numbers fit into 64 bits


def _time(value: object) -> datetime | None:
    try:
        time = _ANY_DATETIME.validate_python(value)
        time = time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    except (ValidationError, OverflowError):
        # Null, empty or invalid. A result that was paid for must not be lost because of its timestamps.
        return None
    return None if time.year == 1 else time


def whole_number(value: object) -> int | None:
    """Return the value as a whole number, or None if it is not a number or implausibly large."""
    try:
        number = int(float(str(value).strip()))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= _MAX_NUMBER else None


def _http_status(value: object) -> int | None:
    number = whole_number(value)
    return number if number is not None and 0 < number < 1000 else None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return json.dumps(value, ensure_ascii=False)


def _optional_text(value: object) -> str | None:
    return None if value is None or value == "" else _text(value)


def _content(value: object) -> str | None:
    # An empty page is a result; only null means that there is no content.
    return None if value is None else _text(value)


def _text_map(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): _text(item) for name, item in value.items()}


def _list(value: object) -> object:
    if value is None:
        return []
    return [item for item in value if item is not None] if isinstance(value, list) else value


Time = Annotated[datetime | None, BeforeValidator(_time)]
Count = Annotated[int, BeforeValidator(lambda value: whole_number(value) or 0)]
OptionalCount = Annotated[int | None, BeforeValidator(whole_number)]
OptionalText = Annotated[str | None, BeforeValidator(_optional_text)]
TextMap = Annotated[dict[str, str], BeforeValidator(_text_map)]
Flag = Annotated[bool, BeforeValidator(lambda value: value is True or str(value).lower() == "true")]
Text = Annotated[str, BeforeValidator(_text)]
Status = Annotated[str, BeforeValidator(lambda value: _text(value).lower())]
Content = Annotated[str | None, BeforeValidator(_content)]
HTTPStatus = Annotated[int | None, BeforeValidator(_http_status)]
AbsentIsEmpty = BeforeValidator(_list)
