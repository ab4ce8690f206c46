"""The resource knows the receiver: where results are delivered, and where they then are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from scrapedo_dagster import ScrapeDoResource
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.inbox.address import Webhook

TOKEN, SECRET = "canary-7f3a9c", "canary-7f3a9c-current-secret"


def resource(**settings: Any) -> ScrapeDoResource:
    return ScrapeDoResource(api_token=TOKEN, **settings)


def test_without_a_webhook_results_are_polled_for() -> None:
    assert (resource().webhook, resource().inbox) == (None, None)


def test_the_webhook_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOKS", "https://hooks.example")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    given = resource(
        webhook_url=dg.EnvVar("HOOKS"),
        webhook_secret=dg.EnvVar("HOOK_SECRET"),
        webhook_inbox=str(tmp_path / "inbox"),
        ledger_url="sqlite://",
    )
    with given.process_config_and_initialize_cm() as initialized:
        assert initialized.webhook == Webhook("https://hooks.example", SECRET)
        assert repr(initialized.inbox) == f"FileInbox({str(tmp_path / 'inbox')!r})"
        assert initialized.inbox is initialized.inbox, "one for all partitions"
        assert "canary" not in repr(initialized)
        assert "canary" not in repr(initialized.webhook)


def test_the_inbox_is_in_the_ledgers_database_by_default() -> None:
    given = resource(webhook_url="https://hooks.example", webhook_secret=SECRET, ledger_url="sqlite://")
    with given.process_config_and_initialize_cm() as initialized:
        assert repr(initialized.inbox) == "TableInbox(Ledger('sqlite://'))"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"webhook_url": "https://hooks.example"}, "webhook_url is set without webhook_secret. Set both"),
        ({"webhook_secret": SECRET}, "webhook_secret is set without webhook_url. Set both"),
    ],
)
def test_half_a_webhook_is_refused_with_what_to_do(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as e:
        resource(**settings)
    assert "canary" not in str(e.value)


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(WebhookError, match="openssl rand"):
        _ = resource(webhook_url="https://hooks.example", webhook_secret="short").webhook


@pytest.mark.parametrize("name", ["webhook_secret", "webhook_inbox"])
def test_the_secret_and_the_place_of_the_inbox_are_secrets_to_dagster(name: str) -> None:
    assert ScrapeDoResource.model_json_schema()["properties"][name]["dagster__is_secret"]
