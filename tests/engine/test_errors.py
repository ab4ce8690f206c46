"""The engine's errors: a retry is worth nothing where a person must change something first."""

from __future__ import annotations

import inspect

from scrapedo_dagster.engine import errors
from scrapedo_dagster.engine.errors import EngineError


def test_errors_that_no_retry_helps() -> None:
    classes = {value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, EngineError)}
    assert {each.__name__ for each in classes if not each.transient} == {
        "GenerationConflictError",
        "InvalidTargetsError",
        "LedgerSchemaError",
        "LedgerUrlError",
        "NotEnoughCreditsError",
        "NothingSubmittedError",
        "UnknownOptionsError",
        "WebhookError",
    }
