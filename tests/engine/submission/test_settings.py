"""What is sent with every batch of a partition."""

from __future__ import annotations

from typing import Any

import pytest

from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.settings import SubmissionSettings
from scrapedo_dagster.engine.webhook_address import SECRET_HEADER, Webhook, submission_key
from tests.support.records import REF, submission

WEBHOOK = Webhook("https://hooks.example", "x" * 32)


@pytest.mark.parametrize("options", [{"webhook_url": "https://a.example/"}, {"webhook_headers": {"A": "b"}}])
def test_a_job_has_one_webhook(options: dict[str, Any]) -> None:
    with pytest.raises(WebhookError, match=r"shop, partition 'mon': .* Remove one of the two"):
        SubmissionSettings(REF, ScrapeOptions(**options), None, webhook=WEBHOOK)
    SubmissionSettings(REF, ScrapeOptions(**options), None)


def test_the_webhook_is_added_to_the_options_of_each_job_and_not_to_the_fingerprint() -> None:
    options = ScrapeOptions(device="mobile")
    settings = SubmissionSettings(REF, options, None, webhook=WEBHOOK)
    batch = submission(State.SUBMITTED)
    sent = settings.options_for(batch)
    assert sent.device == "mobile"
    assert str(sent.webhook_url).endswith(submission_key(batch))
    assert sent.webhook_headers == {SECRET_HEADER: "x" * 32}
    assert settings.fingerprint == SubmissionSettings(REF, options, None).fingerprint
    assert settings.fingerprint != SubmissionSettings(REF, ScrapeOptions(), None).fingerprint
