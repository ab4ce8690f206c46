"""A Postgres server for a while, from what is installed on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

_PATIENCE = 30.0  # seconds for the server to start or to stop


class NoPostgresError(Exception):
    """There is no Postgres on this machine that could be started."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database, until the block ends. It does not sync.

    Raises:
        NoPostgresError: there is none to be started.
    """
    binaries = _binaries()
    # A Postgres server refuses to run as root.
    user = _somebody_else() if os.geteuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="scrapedo-postgres-"))
    if user is not None:
        os.chown(place, user.pw_uid, user.pw_gid)
    rights: dict[str, Any] = {"cwd": place, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if user is not None:
        rights |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    try:
        initdb = [binaries / "initdb", "-D", place / "data", "-U", "test", "-A", "trust", "-E", "UTF8"]
        made = subprocess.run([*initdb, "--locale=C", "--no-sync"], check=False, text=True, **rights)
        assert made.returncode == 0, made.stdout
        port = _free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": 50}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (place / "log").open("w") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", place / "data", *options], **rights | {"stdout": log}
            )
        try:
            _wait_for(server, port, place / "log")
            yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for connections to be closed
            server.wait(_PATIENCE)
    finally:
        shutil.rmtree(place)


def postgres_schema(url: str, name: str) -> str:
    """A place of its own in a database, as good as a new one: its URL."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    return f"{url}?options=-csearch_path%3D{name}"


def _binaries() -> Path:
    places = [Path(path).parent for path in [shutil.which("postgres")] if path is not None]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = [place for place in places if (place / "postgres").exists() and (place / "initdb").exists()]
    if not found:
        raise NoPostgresError("there is no Postgres server: neither on PATH nor in /usr/lib/postgresql")
    return found[0]


def _somebody_else() -> pwd.struct_passwd:
    found = [user for user in pwd.getpwall() if user.pw_name in {"postgres", "nobody"}]
    if not found:
        raise NoPostgresError("Postgres does not run as root, and there is no user postgres or nobody")
    return max(found, key=lambda user: user.pw_name)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _wait_for(server: subprocess.Popen[Any], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=test dbname=postgres").close()
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database on a Postgres server of this test session."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres_server())
        except NoPostgresError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield url
