"""Base class of request models: strict, frozen, with errors that name field, value and rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_pascal
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import Self

_MAX_SHOWN = 80  # characters of a rejected value in a message
_SCALARS = (str, int, float, bool, type(None))  # a list or an object may contain a secret


class RequestModel(BaseModel):
    """A frozen model with Python field names, serialized with the PascalCase names of the service.

    PascalCase names are accepted as input too, so that a body copied from Scrape.do's documentation validates.
    Unknown fields are errors: a misspelled option would otherwise be ignored by the service, and the job charged.
    """

    model_config = ConfigDict(
        alias_generator=to_pascal,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # Otherwise pydantic shows the whole input of a failed cross-field rule, headers and cookies included.
        hide_input_in_errors=True,
    )

    secret_fields: ClassVar[frozenset[str]] = frozenset()
    """Python names of fields whose values must not appear in messages."""

    def broken_rules(self) -> Iterator[str]:
        """Yield a message for each rule between fields that is broken, with the values that break it."""
        yield from ()

    @model_validator(mode="after")
    def _cross_field_rules(self) -> Self:
        if broken := list(self.broken_rules()):
            raise ValueError("; ".join(broken))
        return self

    # Defined last, so that it wraps the validators above.
    @model_validator(mode="wrap")
    @classmethod
    def _add_values_to_messages(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise _with_values(error, cls._secret_names()) from None

    @classmethod
    def _secret_names(cls) -> frozenset[str]:
        aliases = {field.alias for name, field in cls.model_fields.items() if name in cls.secret_fields and field.alias}
        return cls.secret_fields | aliases

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object for the service, without fields that are not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _with_values(error: ValidationError, secret_names: frozenset[str]) -> ValidationError:
    """Return the same errors, with the rejected value added where it is a scalar and not a secret."""
    details: list[InitErrorDetails] = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        message = item["msg"].removeprefix("Value error, ")
        # An unknown field may be a misspelled secret field: its value is not shown either.
        kept = item["type"] in {"missing", "value_error", "extra_forbidden"} or "message" in item.get("ctx", {})
        secret = bool(location) and location[0] in secret_names
        shown = None
        if location and not kept and not secret and isinstance(item["input"], _SCALARS):
            shown = item["input"]
            message += f" (got {_shorten(shown)})"
        details.append(
            InitErrorDetails(
                type=PydanticCustomError(item["type"], "{message}", {"message": message}),
                loc=location[:1] if secret else location,  # the rest are keys inside the secret
                input=shown,  # `hide_input` hides it in the text, but not in `errors()`
            )
        )
    return ValidationError.from_exception_data(error.title, details, hide_input=True)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
