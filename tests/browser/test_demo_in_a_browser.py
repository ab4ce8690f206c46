"""The demo as its user sees it: Dagster's UI in a real browser, on what `make dev` serves."""

import re
import socket
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urljoin

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

# Recent ones: the UI plots and offers no others at first.
DAY, _, *TEN_DAYS = (str(datetime.now(timezone.utc).date() - timedelta(days=days)) for days in range(1, 13))
LIST = """\
ops:
  submit_targets:
    config:
      partition_key: mugs
      targets:
        - {site}/2026-01-01/products/1
        - {site}/2026-01-01/products/2
      options: {{output: markdown}}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def ui(start: Callable[..., "subprocess.Popen[str]"]) -> str:
    """Where the Dagster UI of `make dev` is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start("-m", "scrapedo_dagster.demo.dev", PORT=str(port))
    read = []
    for line in process.stdout:
        read.append(line)
        if "Ctrl-C stops everything" in line:
            return f"http://127.0.0.1:{port}"
    raise AssertionError("".join(read))


def materialize_jobs(page: Page, ui: str, partitions: str, button: str) -> None:
    """Press `Materialize` on the asset page, choose partitions, and launch."""
    page.goto(f"{ui}/assets/catalogue/jobs")
    page.get_by_role("button", name="Materialize").click()
    dialog = page.get_by_role("dialog")
    chosen = dialog.locator("input[type=text]").first
    chosen.fill(partitions)
    chosen.press("Enter")
    dialog.get_by_role("button", name=button).click()
    expect(dialog).to_be_hidden()


def results_are_home(page: Page, ui: str, dataset: str, count: int) -> None:
    """Watch the results become green; nobody reloads the page."""
    page.goto(f"{ui}/assets/{dataset}/tasks?view=partitions")
    expect(page.get_by_text(f"Materialized ({count})")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()


def seconds_to_come_home(data: Path, day: str) -> float:
    """From the end of the job at Scrape.do until its rows were in Parquet."""
    ended = pd.read_parquet(data / "tasks", filters=[("partition", "==", day)])["end_time"].max().timestamp()
    return max(part.stat().st_mtime for part in data.glob(f"*/partition={day}/*.parquet")) - ended


def test_a_user_scrapes_days_and_a_list_and_looks_at_the_results(
    page: Page, ui: str, checkout: Path, artifacts: Path
) -> None:
    data = checkout / "demo_data" / "parquet"
    one_day(page, ui, data / "catalogue")
    ten_days(page, ui, data / "catalogue", artifacts)
    metadata_and_plots(page, ui, artifacts)
    list_in_the_launchpad(page, ui, data, artifacts)


def one_day(page: Page, ui: str, data: Path) -> None:
    materialize_jobs(page, ui, DAY, "Launch 1 run")
    results_are_home(page, ui, "catalogue", 1)
    seconds = seconds_to_come_home(data, DAY)
    print(f"\n{seconds:.1f} s from the end of the job to its rows in Parquet")
    assert seconds < 60  # generous: the machine may be busy


def ten_days(page: Page, ui: str, data: Path, artifacts: Path) -> None:
    materialize_jobs(page, ui, f"[{TEN_DAYS[-1]}...{TEN_DAYS[0]}]", "Launch backfill")
    results_are_home(page, ui, "catalogue", 11)
    page.screenshot(path=artifacts / "partitions.png")
    rows = pd.read_parquet(data / "tasks").groupby("partition", observed=True).size().to_dict()
    assert rows == dict.fromkeys([*TEN_DAYS, DAY], 127)
    page.goto(f"{ui}/runs?show_runs_within_backfills=true")
    expect(page.get_by_text("catalogue_collect").first).to_be_visible()
    page.screenshot(path=artifacts / "runs.png")


def metadata_and_plots(page: Page, ui: str, artifacts: Path) -> None:
    page.goto(f"{ui}/assets/catalogue/tasks?view=partitions&partition={DAY}")
    expect(page.get_by_text("scrapedo/failed_targets")).to_be_visible()
    expect(page.get_by_text(re.compile("no response within")).first).to_be_visible()
    page.screenshot(path=artifacts / "partition.png")

    page.goto(f"{ui}/assets/catalogue/tasks")
    credits_spent = page.get_by_text("scrapedo/credits", exact=True)
    expect(credits_spent).to_be_visible()  # in a table
    page.get_by_text("Plots", exact=True).click()
    expect(page.locator("canvas").first).to_be_visible()
    expect(credits_spent).to_be_visible()  # as a plot
    page.get_by_text("scrapedo/succeeded", exact=True).scroll_into_view_if_needed()
    page.screenshot(path=artifacts / "plots.png")

    page.goto(f"{ui}/locations/scrapedo_demo/asset-groups/catalogue")
    expect(page.get_by_text("page_titles").first).to_be_visible()
    expect(page.get_by_text("Loading...")).to_have_count(0)
    page.screenshot(path=artifacts / "lineage.png")


def list_in_the_launchpad(page: Page, ui: str, data: Path, artifacts: Path) -> None:
    site = urljoin(pd.read_parquet(data / "catalogue" / "tasks")["url"][0], "/").rstrip("/")
    page.goto(f"{ui}/locations/scrapedo_demo/jobs/scrape_targets/playground")
    proposed = page.locator(".CodeMirror-code").first
    expect(proposed).to_contain_text("submit_targets")
    expect(proposed).not_to_contain_text("***")  # as Dagster would propose for the secrets of the resources
    page.locator(".CodeMirror").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(LIST.format(site=site))
    launch = page.get_by_role("button", name="Launch Run")
    expect(launch).to_be_enabled()
    page.screenshot(path=artifacts / "launchpad.png")
    launch.click()
    page.wait_for_url("**/runs/**")
    expect(page.get_by_text("RUN_SUCCESS")).to_be_visible()
    page.screenshot(path=artifacts / "run.png")
    results_are_home(page, ui, "ad_hoc", 1)
    contents = pd.read_parquet(data / "ad_hoc" / "contents")
    assert list(contents["partition"]) == ["mugs", "mugs"]
    assert not contents["text"].str.contains("<html").any()  # the changed option: markdown
