"""A dataset whose results are delivered by webhook, in Dagster."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from scrapedo_dagster import ScrapeDoParquetIOManager, ScrapeDoResource, ScrapeOptions, scrape_do_assets
from scrapedo_dagster.engine.inbox.deliveries import Delivery
from scrapedo_dagster.engine.inbox.inbox import KEEP_FOR, Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger

TOKEN, SECRET = "canary-7f3a9c", "canary-7f3a9c-current-secret"


class LedgerAWeekAgo(Ledger):
    """A ledger whose clock is a week slow: what it stores is old."""

    def now(self) -> datetime:
        return super().now() - KEEP_FOR - timedelta(minutes=1)


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_a_dataset_is_delivered_collected_and_its_inbox_pruned(
    pipeline: Any, running: Any, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("SECRET", SECRET)
    options = ScrapeOptions(webhook_url="https://mine.example") if own else ScrapeOptions()

    @scrape_do_assets(name="shop", options=options)
    def shop(_context: dg.AssetExecutionContext) -> list[str]:
        return list(pipeline.urls(5))

    ledger_url = f"sqlite:///{tmp_path / 'ledger.db'}"
    old = Delivery("0123456789ab-7", "j1", "t1", b"{}")
    Inbox(LedgerAWeekAgo(ledger_url)).put([old])
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        result = dg.materialize(
            list(shop.assets),
            instance=instance,
            raise_on_error=False,
            resources={
                "scrape_do": ScrapeDoResource(
                    api_token=dg.EnvVar("TOKEN"),
                    base_url=pipeline.emulator.base_url,
                    webhook_url=running.url,
                    webhook_secret=dg.EnvVar("SECRET"),
                    ledger_url=ledger_url,
                ),
                "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=str(tmp_path / "data")),
            },
        )
        errors = [event.event_specific_data.error.to_string() for event in result.all_events if event.is_step_failure]
    if own:
        assert "Remove one of the two" in errors[0]
        assert pipeline.emulator.jobs() == []
        return
    assert errors == []
    assert inbox.read(old.key, old.job_id, old.task_id) is None, "nobody has collected it for a week"
    contents = ScrapeDoParquetIOManager(base_uri=str(tmp_path / "data")).store.table(["shop", "contents"])
    rows = contents.dataset(None).to_table(columns=["url", "content"]).to_pylist()
    assert {row["url"]: row["content"] for row in rows} == {url: pipeline.page(url) for url in pipeline.urls(5)}
    stored = {line["submission"] for line in running.requests() if line.get("result") == "stored"}
    assert len(stored) == 1
    [job] = pipeline.emulator.jobs()
    assert job.request["WebhookURL"].endswith(stored.pop())
