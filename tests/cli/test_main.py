"""The command as a program, and its help."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.cli import Planner, Run


def test_the_command_runs_as_a_program(plan: Planner, run: Run, home: Path) -> None:
    submission = plan.submitted(plan.planned("shop", "2026-01-01")[0])
    program = [sys.executable, "-c", "from scrapedo_dagster.cli.main import main; main()", "jobs"]
    environment = os.environ | {"DAGSTER_HOME": str(home)}
    done = subprocess.run([*program, "list"], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    header, row = done.stdout.splitlines()
    assert header.split() == [
        *("id", "dataset", "partition", "generation", "batch", "state", "targets", "job_id", "reason")
    ]
    assert row.split() == [
        *(str(submission.id), "shop", "2026-01-01", "1", "0", "submitted", "3", str(submission.job_id), "-")
    ]


HELP = """
import sys
from click.testing import CliRunner
from scrapedo_dagster.cli.main import main

for arguments in ([], ["jobs"], ["jobs", "list"], ["jobs", "reconcile"], ["emulator"], ["webhooks"]):
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
heavy = {"dagster", "sqlalchemy", "alembic", "httpx", "aiohttp", "pyarrow", "pandas", "numpy", "starlette", "uvicorn"}
print(sorted(heavy & set(sys.modules)))
"""


def test_help_loads_no_heavy_library() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
