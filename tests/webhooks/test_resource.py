"""The resource has the address of the receiver, and the inbox that it stores to."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from scrapedo_dagster import ScrapeDoResource
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.webhook_address import Webhook

TOKEN, SECRET = "canary-7f3a9c", "canary-7f3a9c-current-secret"


def resource(**settings: Any) -> ScrapeDoResource:
    return ScrapeDoResource(api_token=TOKEN, **settings)


def test_without_a_webhook_there_is_no_inbox() -> None:
    assert (resource().webhook, resource().inbox) == (None, None)


def test_the_webhook_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKS", "https://hooks.example")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    given = resource(
        webhook_url=dg.EnvVar("HOOKS"),
        webhook_secret=dg.EnvVar("HOOK_SECRET"),
        ledger_url="sqlite://",
    )
    with given.process_config_and_initialize_cm() as initialized:
        assert initialized.webhook == Webhook("https://hooks.example", SECRET)
        assert repr(initialized.inbox) == "Inbox(Ledger('sqlite://'))"
        assert "canary" not in repr(initialized)
        assert "canary" not in repr(initialized.webhook)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"webhook_url": "https://hooks.example"}, "webhook_url is set without webhook_secret. Set both"),
        ({"webhook_secret": SECRET}, "webhook_secret is set without webhook_url. Set both"),
    ],
)
def test_half_a_webhook_is_refused_with_what_to_do(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as e:
        resource(**settings)
    assert "canary" not in str(e.value)


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(WebhookError, match="openssl rand"):
        _ = resource(webhook_url="https://hooks.example", webhook_secret="short").webhook


def test_the_secret_is_a_secret_to_dagster() -> None:
    assert ScrapeDoResource.model_json_schema()["properties"]["webhook_secret"]["dagster__is_secret"]
