"""The command starts only with a secret and a ledger."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from scrapedo_dagster.cli.main import main
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.webhooks.secrets import Secrets

SECRET = "canary-7f3a9c-current-secret"
VARIABLES = ("SCRAPE_DO_WEBHOOK_SECRET", "SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS", "SCRAPE_DO_LEDGER_URL")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "SCRAPE_DO_WEBHOOK_SECRET is not set"),
        ({"SCRAPE_DO_WEBHOOK_SECRET": ""}, "SCRAPE_DO_WEBHOOK_SECRET is not set"),
        ({"SCRAPE_DO_WEBHOOK_SECRET": "short"}, "24 or more"),
        ({"SCRAPE_DO_WEBHOOK_SECRET": SECRET, "SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS": "short"}, "_PREVIOUS must have"),
    ],
)
def test_it_does_not_start_without_a_good_secret(environment: dict[str, str], message: str) -> None:
    with pytest.raises(WebhookError, match=message):
        Secrets.from_environment(environment)
    given = {**dict.fromkeys(VARIABLES), **environment}
    result = CliRunner().invoke(main, ["webhooks", "--ledger-url", "sqlite://"], env=given)
    assert (result.exit_code, message in result.output) == (1, True)


def test_it_needs_a_ledger() -> None:
    environment = {**dict.fromkeys(VARIABLES), "SCRAPE_DO_WEBHOOK_SECRET": SECRET}
    result = CliRunner().invoke(main, ["webhooks"], env=environment)
    assert result.exit_code == 2
    assert "--ledger-url" in result.output


def test_a_ledger_url_that_is_refused_is_not_shown() -> None:
    """It may have a password, which everybody on a machine could read in a command."""
    environment = {"SCRAPE_DO_WEBHOOK_SECRET": SECRET, "SCRAPE_DO_LEDGER_URL": "canary"}
    result = CliRunner().invoke(main, ["webhooks"], env=environment)
    assert result.exit_code == 1
    assert "ledger_url" in result.output
    assert "canary" not in result.output
