"""A checkout of the repository, and programs that run in it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of its own for the files that programs write."""
    (tmp_path / "dagster_home").mkdir()
    for name in ("pyproject.toml", "workspace.yaml", "dagster_home/dagster.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "scrapedo_dagster").symlink_to(ROOT / "scrapedo_dagster")
    return tmp_path


@pytest.fixture
def start(checkout: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program of this virtual environment in the checkout, in its own process group as a terminal does."""
    started = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        quiet = {name: value for name, value in os.environ.items() if name not in {"SCRAPE_DO_API_KEY", "TARGETS"}}
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=checkout,
            env=quiet | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts something with `&` makes it ignore Ctrl-C, and the children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        for child in processes_of(process.pid):
            child.kill()
        process.communicate()


@pytest.fixture
def group_of() -> Callable[[int], list[psutil.Process]]:
    return processes_of


def processes_of(session: int) -> list[psutil.Process]:
    """Return all running processes of the session of a program."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass  # it ended while we looked
    return found
