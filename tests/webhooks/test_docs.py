"""What docs/webhooks.md prints runs, and what it says is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from scrapedo_dagster.cli.webhooks import webhooks
from scrapedo_dagster.engine.inbox.inbox import KEEP_FOR, QuarantineLimits
from scrapedo_dagster.engine.polling.poller import PollPolicy
from scrapedo_dagster.engine.webhook_address import MIN_SECRET_LENGTH, PATH, SECRET_HEADER, Webhook
from scrapedo_dagster.webhooks.app import ReceiverLimits
from scrapedo_dagster.webhooks.delivery_writer import DeliveryResult
from scrapedo_dagster.webhooks.secrets import CURRENT, PREVIOUS

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_resource_of_the_page_has_a_webhook_and_an_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = blocks("python")
    names: dict[str, Any] = {}
    exec(block, names)
    monkeypatch.setenv("SCRAPE_DO_API_KEY", "t")
    monkeypatch.setenv("SCRAPE_DO_WEBHOOK_SECRET", "x" * 64)
    monkeypatch.setenv("SCRAPE_DO_LEDGER_URL", "sqlite://")
    resource = names["defs"].resources["scrape_do"]
    with resource.process_config_and_initialize_cm() as initialised:
        assert initialised.webhook == Webhook("https://hooks.example.com", "x" * 64)
        assert repr(initialised.inbox) == "Inbox(Ledger('sqlite://'))"


def test_the_commands_of_the_page_exist() -> None:
    commands = re.findall(r"^scrapedo-dagster webhooks (.+)$", PAGE, flags=re.MULTILINE)
    assert commands
    for command in commands:
        webhooks.make_context(
            "webhooks", [*shlex.split(command), "--ledger-url", "sqlite://"]
        )  # raises for what it does not know
    known = {option for parameter in webhooks.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


@pytest.mark.usefixtures("any_task")
def test_the_line_of_the_access_log_is_like_those_of_the_receiver(running: Any, task_body: Any) -> None:
    [block] = blocks("json")
    running.post(task_body())
    [line] = running.requests()
    assert list(json.loads(block)) == list(line)


def test_the_numbers_and_names_of_the_page_are_those_of_the_code() -> None:
    defaults = {parameter.name: parameter.default for parameter in webhooks.params}
    limits, quarantine = ReceiverLimits(), QuarantineLimits()
    assert f"`--request-timeout`, {defaults['request_timeout']:g} s" in PAGE
    assert f"`--max-body`, {defaults['max_body']} MB" in PAGE
    assert (defaults["max_body"] * 2**20, defaults["request_timeout"]) == (limits.max_body, limits.request_seconds)
    assert f"all bodies in memory together {limits.bodies_in_memory} times" in PAGE
    assert f"have to arrive within {limits.header_seconds:g} s" in PAGE
    assert f"serves {limits.max_connections} connections at once" in PAGE
    assert f"more than about {limits.max_header // 1024} KB of headers" in PAGE
    assert f"does not answer within {limits.ready_seconds:g} s." in PAGE
    polling = PollPolicy()
    silent, delivered = (each.total_seconds() // 60 for each in (polling.undelivered_every, polling.delivered_every))
    assert f"every {silent:g} minutes while nothing of them has arrived, and every {delivered:g} minutes once" in PAGE
    assert f"or after {KEEP_FOR.days} days" in PAGE
    assert f"Up to {quarantine.deliveries} deliveries and {quarantine.bytes // 2**20} MB" in PAGE
    assert f"needs {MIN_SECRET_LENGTH} or more letters" in PAGE
    for name in (PATH, SECRET_HEADER, CURRENT, PREVIOUS, *(f"`{result.value}`" for result in DeliveryResult)):
        assert name in PAGE, name


def test_the_links_of_the_page_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / link).is_file(), link
