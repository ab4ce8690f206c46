"""The base of every model that we send: strict, frozen, with messages that name field, value and rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_pascal
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import Self

_SHOWN = 80  # characters of a rejected value that a message repeats
_PLAIN = (str, int, float, bool, type(None))  # a list or an object may have a secret somewhere inside


class RequestModel(BaseModel):
    """A frozen model under Python names that goes out under the service's PascalCase names.

    Wire names are accepted too, so that a body copied from Scrape.do's documentation can be validated as it is.
    Unknown fields are errors: a misspelt option would otherwise be paid for and have no effect.
    """

    model_config = ConfigDict(
        alias_generator=to_pascal,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # Pydantic would print the whole input of a failed cross-field rule, headers and cookies included.
        hide_input_in_errors=True,
    )

    secret_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields whose values no message may show, by Python name."""

    def broken_rules(self) -> Iterator[str]:
        """What is wrong between the fields, each rule with the values that break it."""
        yield from ()

    @model_validator(mode="after")
    def _cross_field_rules(self) -> Self:
        if broken := list(self.broken_rules()):
            raise ValueError("; ".join(broken))
        return self

    # Defined last: it has to see what the rules above say.
    @model_validator(mode="wrap")
    @classmethod
    def _name_the_values(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise _with_values(error, cls._hidden_names()) from None

    @classmethod
    def _hidden_names(cls) -> frozenset[str]:
        aliases = {field.alias for name, field in cls.model_fields.items() if name in cls.secret_fields and field.alias}
        return cls.secret_fields | aliases

    def to_wire(self) -> dict[str, Any]:
        """The JSON object as the service takes it; what was not set is not in it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _with_values(error: ValidationError, hidden: frozenset[str]) -> ValidationError:
    """The same errors, each with the rejected value, as long as it is one field's and not a secret."""
    details: list[InitErrorDetails] = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        message = item["msg"].removeprefix("Value error, ")
        # An unknown field may be a secret one with a slip in its name: its value is not shown either.
        kept = item["type"] in {"missing", "value_error", "extra_forbidden"} or "message" in item.get("ctx", {})
        secret = bool(location) and location[0] in hidden
        shown = None
        if location and not kept and not secret and isinstance(item["input"], _PLAIN):
            shown = item["input"]
            message += f" (got {_shorten(shown)})"
        details.append(
            InitErrorDetails(
                type=PydanticCustomError(item["type"], "{message}", {"message": message}),
                loc=location[:1] if secret else location,  # what follows are the secret's own keys
                input=shown,  # `hide_input` keeps it out of the text, and not out of `errors()`
            )
        )
    return ValidationError.from_exception_data(error.title, details, hide_input=True)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def between(low: int, high: int, unit: str = "") -> AfterValidator:
    """A rule for whole numbers from low to high, both included, whose message says the unit."""

    def check(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"{value} is not between {low} and {high}{unit and ' ' + unit}")
        return value

    return AfterValidator(check)
