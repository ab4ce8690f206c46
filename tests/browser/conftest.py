"""A browser, and `make dev` in a checkout of its own to look at."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.demo.conftest import checkout, start  # noqa: F401 - fixtures

PATIENCE = 120_000  # milliseconds for something to happen in Dagster


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of the system's chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "there is no chromium on the PATH: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=PATIENCE)
        yield page
        browser.close()


@pytest.fixture
def artifacts() -> Path:
    """Where screenshots are kept."""
    directory = Path(__file__).parents[2] / "test-artifacts"
    directory.mkdir(exist_ok=True)
    return directory
