"""`make demo` and `make dev`."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest
import yaml

from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Start = Callable[..., "subprocess.Popen[str]"]
GroupOf = Callable[[int], list[psutil.Process]]

DEMO = ("-m", "scrapedo_dagster.demo.run")
DEV = ("-m", "scrapedo_dagster.demo.dev")

pytestmark = pytest.mark.slow


def wait_for_output(process: "subprocess.Popen[str]", pattern: str) -> "re.Match[str]":
    """Read the output of the program until a line matches."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError("".join(read))


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    import time

    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.2)
    return result


def test_the_demo_scrapes_two_days_and_shows_the_results(checkout: Path, start: Start, group_of: GroupOf) -> None:
    process = start(*DEMO)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    tasks = pd.read_parquet(checkout / "demo_data" / "parquet" / "catalogue" / "tasks")
    assert tasks.groupby("partition", observed=True).size().to_dict() == {"2026-01-01": 127, "2026-01-02": 127}
    assert tasks["status"].value_counts().to_dict() == {"success": 250, "error": 4}
    for shown in ("127/127", "no response within 5.0 s", "part-00001-00000.parquet", "pd.read_parquet", "make dev"):
        assert shown in output
    assert re.search(r"2026-01-02 .* 127 .* 125 .* 2 .* 125 ", output)
    assert group_of(process.pid) == []


def test_the_demo_scrapes_urls_of_a_file_once_with_the_token_of_the_user(checkout: Path, start: Start) -> None:
    urls = [f"http://127.0.0.1:1/{number}" for number in range(5)]
    (checkout / "urls.txt").write_text("# my pages\n" + "\n".join([*urls, urls[0]]) + "\n\n")
    with Emulator(token="my-own-token-91", speed=50) as service:
        process = start(
            *DEMO, SCRAPE_DO_API_KEY="my-own-token-91", SCRAPE_DO_BASE_URL=service.base_url, TARGETS="urls.txt"
        )
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        assert {url: count.submitted for url, count in service.targets().items()} == dict.fromkeys(urls, 1)
    written = [path for path in checkout.rglob("*") if path.is_file() and "scrapedo_dagster/" not in str(path)]
    assert not [path for path in written if b"my-own-token-91" in path.read_bytes()]
    assert "my-own-token-91" not in output


def test_a_real_account_in_an_env_file_is_not_used_by_the_free_demo(checkout: Path, start: Start) -> None:
    with Emulator(token="my-own-token-93", speed=50) as service:
        (checkout / ".env").write_text(
            f"SCRAPE_DO_API_KEY=my-own-token-93\nSCRAPE_DO_BASE_URL={service.base_url}\nTARGETS=urls.txt\n"
        )
        output, _ = start(*DEMO).communicate(timeout=240)
        assert "127/127" in output
        assert service.requests() == {}


def test_a_real_token_alone_is_neither_used_nor_shown(start: Start) -> None:
    process = start(*DEMO, SCRAPE_DO_API_KEY="my-own-token-92")
    line = wait_for_output(process, "Scraping 2 daily partitions")
    assert "emulator" in line.string
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "my-own-token-92" not in output


@pytest.mark.parametrize(
    ("environment", "advice"),
    [({"TARGETS": "nowhere.txt"}, "is not a file"), ({"TARGETS": "pyproject.toml"}, "set SCRAPE_DO_API_KEY")],
)
def test_an_incomplete_configuration_is_an_error(start: Start, environment: dict[str, str], advice: str) -> None:
    process = start(*DEMO, **environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert advice in " ".join(output.split())
    assert "Traceback" not in output


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_everything_the_demo_started(
    checkout: Path, start: Start, group_of: GroupOf, stop: signal.Signals
) -> None:
    process = start(*DEMO)
    log = checkout / "demo_data" / "2026-01-01.log"
    wait_until(lambda: log.exists() and "submitted 127 targets" in log.read_text())
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)
    else:
        process.send_signal(stop)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. All started processes have ended." in output
    assert "Traceback" not in output
    assert group_of(process.pid) == []


def test_an_asset_can_be_materialized_in_the_ui_and_ctrl_c_stops_everything(start: Start, group_of: GroupOf) -> None:
    process = start(*DEV)
    address = wait_for_output(process, r"Dagster UI\s+(http://127\.0\.0\.1:\d+)").group(1)
    # What the button `Materialize` sends.
    selector = {
        "repositoryLocationName": "scrapedo_demo",
        "repositoryName": "__repository__",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": ["catalogue", table]} for table in ("jobs", "tasks", "contents")],
    }
    tags = [{"key": "dagster/partition", "value": "2026-01-05"}]
    launched = ask(
        address,
        """mutation ($params: ExecutionParams!) {
             launchPipelineExecution(executionParams: $params) {
               __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
             }
           }""",
        params={"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": {}, "mode": "default"},
    )["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]
    status = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
    ended = wait_until(
        lambda: (
            (state := ask(address, status, id=run_id)["runOrError"]["status"]) in {"SUCCESS", "FAILURE", "CANCELED"}
            and state
        ),
        seconds=120,
    )
    assert ended == "SUCCESS"
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    wait_until(lambda: group_of(process.pid) == [], seconds=15)


def ask(address: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = httpx.post(f"{address}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
    assert "errors" not in answer, answer
    return dict(answer["data"])


def test_dg_and_workspace_yaml_load_the_same_definitions(checkout: Path, start: Start) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    [location] = yaml.safe_load((checkout / "workspace.yaml").read_text())["load_from"]
    assert location["python_module"]["module_name"] == project["code_location_target_module"]
    assert location["python_module"]["location_name"] == project["code_location_name"]
    for arguments in (("dg", "check", "defs"), ("dagster", "definitions", "validate", "-w", "workspace.yaml")):
        process = start(
            "-c",
            f"import os, sys; os.execv(os.path.join(os.path.dirname(sys.executable), '{arguments[0]}'), {arguments!r})",
        )
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output


def test_a_port_in_use_is_an_error(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(*DEV, PORT=str(port))
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use" in output


def test_a_range_of_partitions_is_launched_as_one_run(checkout: Path, start: Start) -> None:
    command = ("dg", "launch", "--assets", "catalogue/jobs", "--partition-range", "2026-01-01...2026-01-03")
    with DemoSite() as site, Emulator(token="canary-7f3a9c", speed=50) as emulator:
        process = start(
            "-c",
            f"import os, sys; os.execv(os.path.join(os.path.dirname(sys.executable), 'dg'), {command!r})",
            DAGSTER_HOME=str(checkout / "dagster_home"),
            SCRAPEDO_DEMO_SITE=site.base_url,
            SCRAPEDO_DEMO_TOKEN=emulator.token,
            SCRAPEDO_DEMO_BASE_URL=emulator.base_url,
        )
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert len(emulator.jobs()) == 3
    assert output.count("RUN_SUCCESS") == 1
