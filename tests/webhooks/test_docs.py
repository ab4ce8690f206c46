"""What docs/webhooks.md prints runs, and what it says is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from scrapedo_dagster.cli.webhooks import webhooks
from scrapedo_dagster.engine.inbox import address as inbox_address
from scrapedo_dagster.engine.inbox import protocol as inbox_module
from scrapedo_dagster.engine.inbox.address import PATH, SECRET_HEADER, Webhook
from scrapedo_dagster.engine.polling.poller import PollPolicy
from scrapedo_dagster.webhooks import app, secrets, server
from scrapedo_dagster.webhooks.storing import Fate

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_resource_of_the_page_has_a_webhook_and_an_inbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [block] = blocks("python")
    names: dict[str, Any] = {}
    exec(block.replace("s3://bucket/inbox", str(tmp_path)), names)
    monkeypatch.setenv("SCRAPE_DO_API_KEY", "t")
    monkeypatch.setenv("SCRAPE_DO_WEBHOOK_SECRET", "x" * 64)
    monkeypatch.setenv("SCRAPE_DO_LEDGER_URL", "sqlite://")
    resource = names["defs"].resources["scrape_do"]
    with resource.process_config_and_initialize_cm() as initialised:
        assert initialised.webhook == Webhook("https://hooks.example.com", "x" * 64)
        assert repr(initialised.inbox) == f"FileInbox({str(tmp_path)!r})"


def test_the_commands_of_the_page_exist() -> None:
    commands = re.findall(r"^scrapedo-dagster webhooks (.+)$", PAGE, flags=re.MULTILINE)
    assert commands
    for command in commands:
        webhooks.make_context("it", shlex.split(command))  # raises for what it does not know
    known = {option for parameter in webhooks.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


def test_the_line_of_the_access_log_is_as_they_are(running: Any, task_body: Any) -> None:
    [block] = blocks("json")
    running.post(task_body())
    [line] = running.requests()
    assert list(json.loads(block)) == list(line)


def test_the_numbers_and_names_of_the_page_are_those_of_the_code() -> None:
    defaults = {parameter.name: parameter.default for parameter in webhooks.params}
    assert f"`--request-timeout`, {defaults['request_timeout']:g} s" in PAGE
    assert f"`--max-body`, {defaults['max_body']} MB" in PAGE
    assert (defaults["max_body"] * 2**20, defaults["request_timeout"]) == (app.MAX_BODY, app.REQUEST_SECONDS)
    assert f"share {app._BODIES_IN_MEMORY} times `--max-body`" in PAGE
    assert f"come within {server._HEAD_SECONDS:g} s, and a connection is closed {server._IDLE_SECONDS:g} s" in PAGE
    assert f"{server._MOST_CONNECTIONS}\nconnections at most, and {server._RESERVE} fewer" in PAGE
    assert f"more than {server._MOST_HEAD // 1024} KB of headers" in PAGE
    assert f"within {app._READY_SECONDS:g} s." in PAGE
    polling = PollPolicy()
    silent, told = (each.total_seconds() // 60 for each in (polling.undelivered_every, polling.delivered_every))
    assert f"every {silent:g} minutes while nothing of them has come, and every {told:g} minutes once" in PAGE
    assert f"forgotten after {inbox_module.KEPT.days} days" in PAGE
    apart = f"Up to {inbox_module.MAX_QUARANTINED} of them and {inbox_module.MAX_QUARANTINED_BYTES // 2**20} MB"
    assert apart in PAGE
    assert f"needs {inbox_address._SHORTEST_SECRET} or more letters" in PAGE
    for name in (PATH, SECRET_HEADER, secrets.CURRENT, secrets.PREVIOUS, *(f"`{fate.value}`" for fate in Fate)):
        assert name in PAGE, name


def test_the_links_of_the_page_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / link).is_file(), link
