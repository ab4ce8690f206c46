"""The address of a receiver, and the key of a submission in it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.webhook_address import SECRET_HEADER, ParsedKey, Webhook, submission_key

REF = PartitionRef("0123456789abcdef" * 2, "shop", None)
SECRET = "canary-7f3a9c-current-secret"


@dataclass
class Named:
    """What the key of a submission is made of."""

    id: int
    ref: PartitionRef = REF


def test_a_key_has_the_account_and_the_id() -> None:
    key = submission_key(Named(17))  # type: ignore[arg-type]
    assert key == "0123456789ab-17"
    assert ParsedKey.parse(key) == ParsedKey("0123456789ab", 17)


@pytest.mark.parametrize(
    "key", ["", "x", "0123456789ab-0", "0123456789ab-9999999999", "0123456789AB-1", "0123456789ab"]
)
def test_other_texts_are_no_keys(key: str) -> None:
    assert ParsedKey.parse(key) is None


@pytest.mark.parametrize("url", ["https://hooks.example/hooks", "https://hooks.example/hooks/"])
def test_the_path_and_the_key_are_appended_to_the_url(url: str) -> None:
    options = Webhook(url, SECRET).add_to(ScrapeOptions(), Named(17))  # type: ignore[arg-type]
    assert options.webhook_url == "https://hooks.example/hooks/webhooks/scrape-do/0123456789ab-17"
    assert options.webhook_headers == {SECRET_HEADER: SECRET}


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("https://hooks.example", "canary-7f3a9c", "webhook_secret must have 24 or more"),
        ("https://hooks.example", "canary-7f3a9c with spaces in between", "letters, digits"),
        ("ftp://hooks.example", "x" * 32, "webhook_url"),
        ("https://hooks.example/?canary=7f3a9c", "x" * 32, "webhook_url 'https://hooks.example/' has a query"),
        ("https://hooks.example/?canary=7f3a9c\n", "x" * 32, "webhook_url: 'https://hooks.example/' contains"),
        ("https://me:canary@hooks.example/#", "x" * 32, "webhook_url 'https://hooks.example/' has a query"),
    ],
)
def test_webhooks_that_cannot_work_are_refused_without_the_secret(url: str, secret: str, message: str) -> None:
    with pytest.raises(WebhookError, match=message) as e:
        Webhook(url, secret)
    assert secret not in str(e.value)
    assert "canary" not in str(e.value)


def test_the_repr_of_a_webhook_does_not_show_its_secret() -> None:
    assert "canary" not in repr(Webhook("https://hooks.example", SECRET))
