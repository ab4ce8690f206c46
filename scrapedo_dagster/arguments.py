"""Arguments of datasets, checked at definition: a message names the argument and what it may be."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg


def check_arguments(where: str, **arguments: Any) -> None:
    """Hold each argument against the rule for its name.

    Raises:
        dg.DagsterInvalidDefinitionError: one breaks it.
    """
    for name, value in arguments.items():
        is_right, rule = _RULES[name]
        if not is_right(value):
            raise dg.DagsterInvalidDefinitionError(f"{where}: {name}={value!r} is not {rule}.")


def duration_of(value: timedelta | float) -> timedelta:
    """What may be given as seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, least: int) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= least


def _is_duration(value: Any) -> bool:
    if isinstance(value, timedelta):
        return value > timedelta(0)
    return _is_number(value) and 0 < value < timedelta.max.total_seconds()


_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "min_success_ratio": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "job_deadline": (_is_duration, "a timedelta, or seconds, above 0"),
    "on_invalid_target": (lambda value: value in ("raise", "skip"), "'raise' or 'skip'"),
    "max_credits": (lambda value: value is None or _is_whole(value, 0), "a whole number, 0 or more, or None"),
    "max_open_jobs": (lambda value: value is None or _is_whole(value, 1), "a whole number, 1 or more, or None"),
    "retry_failed_targets": (lambda value: _is_whole(value, 0), "a whole number, 0 or more"),
}
