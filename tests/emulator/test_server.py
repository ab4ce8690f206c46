"""Starting and stopping, settings, secrets, and the command line."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from scrapedo_dagster.cli.emulator import emulator as command
from scrapedo_dagster.emulator import (
    DEFAULT_TOKEN,
    Emulator,
    EmulatorSettings,
    EmulatorSettingsError,
    Faults,
    PortInUseError,
)

RUN = [sys.executable, "-c", "from scrapedo_dagster.cli.emulator import emulator; emulator()"]


def test_stopping_frees_port_and_thread(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    def open_sockets() -> int:
        targets = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        return sum(target.startswith("socket:") for target in targets)

    threads, sockets = set(threading.enumerate()), open_sockets()
    site.gate.clear()
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        with Emulator(token="t", speed=1000) as emulator:
            api = f"{emulator.base_url}/api/v1"
            body = {"Targets": [f"{site.url}/{i}" for i in range(50)], "WebhookURL": f"{site.url}/hook"}
            httpx.post(f"{api}/jobs", json=body, headers={"X-Token": "t"})
            while not site.at_once:
                assert httpx.get(f"{api}/me", headers={"X-Token": "t"}).status_code == 200
        site.gate.set()
        gc.collect()
    assert not emulator.is_alive
    assert {thread for thread in threading.enumerate() if thread.name == "scrapedo-emulator"} <= threads
    while open_sockets() > sockets:  # the site's side of the connections ends by itself
        pass
    assert [str(warning.message) for warning in caught] == []
    assert caplog.records == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(emulator.base_url)


def test_it_can_be_queried_after_stopping_but_not_restarted() -> None:
    with Emulator() as emulator:
        pass
    assert emulator.jobs() == []
    assert emulator.credits == 3_500_000
    with pytest.raises(RuntimeError, match="create a new one"):
        emulator.__enter__()
    with pytest.raises(RuntimeError, match="not started"):
        Emulator().jobs()


def test_a_failed_start_raises_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("scrapedo_dagster.emulator.server.make_app", broken)
    with pytest.raises(RuntimeError, match="a defect"), Emulator():
        pass


def test_a_defect_of_an_operation_is_a_500_error_response(
    api: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("scrapedo_dagster.emulator.service.Service.me", broken)
    response = api.http.get("/me")
    assert (response.status_code, response.json()) == (500, {"Error": "Request failed", "Code": 500})
    eventually(lambda: "a defect" in caplog.text)


def test_two_emulators_are_independent(start: Any, site: Any) -> None:
    one, two = start(), start()
    job_id = one.create(f"{site.url}/page")
    assert two.http.get(f"/jobs/{job_id}").status_code == 404
    assert one.emulator.base_url != two.emulator.base_url


def test_a_port_in_use_is_named() -> None:
    with Emulator() as emulator:
        port = int(emulator.base_url.rsplit(":", 1)[1])
        with (
            pytest.raises(PortInUseError, match=f"cannot listen on 127.0.0.1:{port}"),
            Emulator(settings=EmulatorSettings(port=port)),
        ):
            pass
        runner = CliRunner().invoke(command, ["--port", str(port)])
    assert runner.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in runner.output


def test_it_listens_on_ipv6(site: Any) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with Emulator(settings=EmulatorSettings(host="::1")) as emulator:
            assert emulator.base_url.startswith("http://[::1]:")
            assert httpx.get(f"{emulator.admin_url}/requests").json() == {"requests": {}}
    except PortInUseError:
        pytest.skip("this machine has no IPv6 loopback")


def test_the_token_is_not_shown(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    secret = "sssecret-0123456789"
    with caplog.at_level(logging.DEBUG, logger="scrapedo_dagster"), Emulator(token=secret, speed=1000) as emulator:
        emulator.set_faults({"calls": [{"endpoint": "me", "kind": "drop", "times": 1}]})
        texts = [repr(emulator), repr(emulator.settings), str(emulator.settings)]
        with httpx.Client(base_url=f"{emulator.base_url}/api/v1", headers={"X-Token": secret}) as http:
            with pytest.raises(httpx.TransportError):
                http.get("/me")
            answers = [
                http.get("/me"),
                http.get("/me", headers={"X-Token": secret + "x"}),
                http.get("/nothing"),
                http.post("/jobs", json={"Targets": [secret]}),
                http.post("/jobs", json={"Targets": [f"{site.url}/page"]}),
                httpx.get(f"{emulator.admin_url}/faults"),
                httpx.get(f"{emulator.admin_url}/requests"),
            ]
    texts += [answer.text for answer in answers] + [caplog.text]
    assert "drop" in caplog.text
    assert not [text for text in texts if secret in text]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"plan": "giant"}, "plan is 'giant'; it must be one of free"),
        ({"token": ""}, "token is empty"),
        ({"speed": 0}, "speed is 0"),
        ({"speed": float("inf")}, "speed is inf"),
        ({"credits": -1}, "credits is -1"),
        ({"port": 65536}, "port is 65536"),
        ({"queue_seconds": -1.0}, "queue_seconds is -1.0"),
        ({"processing_seconds": -1.0}, "processing_seconds is -1.0"),
        ({"webhook_retry_seconds": (1.0, -1.0)}, "webhook_retry_seconds"),
    ],
)
def test_an_invalid_setting_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(EmulatorSettingsError, match=named):
        EmulatorSettings(**wrong)


def test_faults_can_be_given_from_the_start_as_a_mapping_or_a_model() -> None:
    for faults in ({"seed": 4}, Faults(seed=4)):
        with Emulator(faults=faults) as emulator:
            assert emulator.faults.seed == 4


class Process:
    """The command in a separate process."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*RUN, "--port", "0", *arguments],
            env={**{k: v for k, v in os.environ.items() if k != "SCRAPE_DO_API_KEY"}, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline() for _ in range(4)]
        self.base_url = self.lines[0].split()[-1]

    def stop(self, number: int) -> tuple[int, str]:
        """Return the exit status and the output."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, "".join(self.lines) + out + err


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c_and_ends_with_0() -> None:
    process = Process()
    answer = httpx.get(f"{process.base_url}/api/v1/me", headers={"X-Token": DEFAULT_TOKEN})
    code, output = process.stop(signal.SIGINT)
    assert answer.json()["TotalConcurrency"] == 12
    assert code == 0
    assert f"{process.base_url}/admin" in output
    assert DEFAULT_TOKEN in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_the_command_takes_its_token_from_the_environment_and_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text('[[calls]]\nendpoint = "list_jobs"\nkind = "status"\nstatus = 503\n')
    options = ["--plan", "pro", "--speed", "50", "--faults", str(faults)]
    process = Process(*options, SCRAPE_DO_API_KEY="users-own")
    headers = {"X-Token": "users-own"}
    me = httpx.get(f"{process.base_url}/api/v1/me", headers=headers)
    jobs = httpx.get(f"{process.base_url}/api/v1/jobs", headers=headers)
    code, output = process.stop(signal.SIGTERM)
    assert (me.status_code, me.json()["TotalConcurrency"], jobs.status_code, code) == (200, 5, 503, 0)
    assert "users-own" not in output
    assert "list_jobs: injected fault status, call not processed" in output


def test_a_token_given_as_an_option_is_used_and_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(settings: EmulatorSettings, announce: Any) -> None:
        with Emulator(settings=settings) as emulator:
            announce(emulator)
            assert emulator.token == "users-own"

    monkeypatch.setattr("scrapedo_dagster.emulator.server.serve", serve)
    result = CliRunner().invoke(command, ["--port", "0", "--token", "users-own"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "http://127.0.0.1:" in result.output
    assert "users-own" not in result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--plan", "giant"], "'giant' is not one of"),
        (["--speed", "0"], "speed is 0.0"),
        (["--port", "70000"], "port is 70000"),
        (["--faults", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_the_command_names_invalid_options(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code in (1, 2)
    assert named in result.output
    assert "Traceback" not in result.output


def test_without_the_extra_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scrapedo_dagster.emulator.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(command, ["--port", "0"])
    assert result.exit_code == 1
    assert "needs the package uvicorn: pip install 'scrapedo-dagster[emulator]'" in result.output
