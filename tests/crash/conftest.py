"""A site, a service and a ledger for workers that are killed, and a look at what they left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scrapedo_dagster
from scrapedo_dagster.emulator import Emulator, EmulatorSettings, Faults
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.collection.partition_tables import PartitionTables
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import account_fingerprint
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore, ParquetTable
from tests.support.postgres import postgres_schema

_HERE = Path(__file__).parent
_PATIENCE = 30.0  # seconds for a server to start or to stop
# What differs between two runs of the same work.
_OF_A_RUN = {
    "job_id",
    "task_id",
    "start_time",
    "end_time",
    "update_time",
    "duration_ms",
    "remaining_credits",
    "expires_at",
    "trace_id",
}


# --- workers


class Forks:
    """Starts workers, see forkserver.py."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(Path(scrapedo_dagster.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._server = subprocess.Popen(
            [sys.executable, _HERE / "forkserver.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "NO_PROXY": "*"},
        )

    def run(self, *specs: dict[str, Any]) -> list[int | None]:
        """Run workers that start together. Returns how each ended: 0, its exit code, or minus its signal."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(specs) + "\n")
        self._server.stdin.flush()
        ends: list[int | None] = json.loads(self._server.stdout.readline())
        return ends

    def close(self) -> None:
        self._server.communicate(timeout=_PATIENCE)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def site() -> Iterator[DemoSite]:
    with DemoSite() as site:
        yield site


# --- a partition


@dataclass
class Work:
    """One partition to be scraped: an account of its own at a service of its own, and places for what comes of it."""

    forks: Forks
    emulator: Emulator
    ledger_url: str
    place: Path
    targets: list[str]
    ends: list[int | None] = field(default_factory=list)

    def run(
        self, *, steps: str = "submit bring", deadly: str | None = None, by: str = "exit", at_once: int = 1
    ) -> None:
        """Let workers do it. One that is `deadly` dies at this point, by os._exit or by SIGKILL."""
        number = len(self.ends)
        spec = {
            "token": self.emulator.token,
            "base_url": self.emulator.base_url,
            "ledger": self.ledger_url,
            "data": str(self.data),
            "targets": self.targets,
            "steps": steps,
            "deadly": deadly,
            "by": by,
            "at_once": at_once,
            "begun": str(self.place / f"begun-{number}"),
            "lease": 1 if at_once == 1 else 60,  # the living wait for each other, and reconcile nothing
            "log": str(self.place / "log"),
        }
        specs = [{**spec, "trail": str(self.place / f"trail-{number + each}")} for each in range(at_once)]
        self.ends += self.forks.run(*specs)

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def tables(self) -> PartitionTables:
        return _tables(self.data)

    @property
    def is_complete(self) -> bool:
        """Whether a person who looks finds the new generation, and it alone."""
        current = self.tables.tasks.current_generation("mon")
        parts = [*self.tables.tasks.parts("mon"), *self.tables.contents.parts("mon")]
        return current is not None and current.generation == 2 and {part.generation for part in parts} == {2}

    @property
    def urls(self) -> list[str]:
        """What a reader of the partition's `tasks` finds now."""
        return _urls(self.tables.tasks)

    @property
    def urls_with_content(self) -> list[str]:
        """What a reader of the partition's `contents` finds now."""
        return _urls(self.tables.contents)

    @property
    def broken_parts(self) -> list[str]:
        """Parts that other tools, which read all of them, would stumble over."""
        return [path.name for path in self.data.rglob("part-*.parquet") if not _is_readable(path)]

    @property
    def log(self) -> str:
        return (self.place / "log").read_text()

    @property
    def trail(self) -> list[str]:
        """The points that the first worker has passed."""
        return (self.place / "trail-0").read_text().splitlines()

    @property
    def files(self) -> dict[str, Any]:
        """Every file, with its rows as far as they do not differ from run to run."""
        paths = [path for path in self.data.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.data)): _meaning(path) for path in sorted(paths)}

    @property
    def submitted(self) -> dict[str, int]:
        """How often each target was submitted, by the service's own count."""
        return {url: count.submitted for url, count in self.emulator.targets().items()}

    @property
    def states(self) -> Counter[str]:
        """How many submissions of all generations are in each state."""
        ledger = Ledger(self.ledger_url)
        try:
            return Counter(
                each.state.value for each in ledger.submissions.find(account=account_fingerprint(self.emulator.token))
            )
        finally:
            ledger.close()


def _tables(data: Path) -> PartitionTables:
    store = ParquetStore(str(data))
    return PartitionTables(
        store.table(["shop", "tasks"], TASKS_SCHEMA), store.table(["shop", "contents"], CONTENTS_SCHEMA), "mon"
    )


def _urls(table: ParquetTable) -> list[str]:
    urls: list[str] = table.dataset(["mon"]).to_table(columns=["url"])["url"].to_pylist()
    return urls


def _scrape_before(data: Path) -> None:
    """Leave an older generation, to be replaced."""
    row = {"task_id": "old", "url": "old", "content": b"old", "position": 0, "status": "success", "generation": 1}
    tables = _tables(data)
    for table, schema in ((tables.contents, CONTENTS_SCHEMA), (tables.tasks, TASKS_SCHEMA)):
        for index in range(2):
            with table.open_part("mon", 1, index) as part:
                part.write(pa.Table.from_pylist([row], schema=schema))
        table.complete_generation("mon", 1, range(2))


def _is_readable(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except pa.ArrowException:
        return False
    return True


def _meaning(path: Path) -> Any:
    if path.suffix not in {".parquet", ".json"}:
        return "should not be there"
    if path.suffix == ".json":
        return {name: value for name, value in json.loads(path.read_text()).items() if name != "bytes"}
    rows = pq.read_table(path, partitioning=None).to_pylist()
    for row in rows:
        for name in _OF_A_RUN & row.keys():
            del row[name]
        if row.get("response_headers") is not None:
            row["response_headers"] = sorted(header for header in row["response_headers"] if header[0] != "Date")
    return rows


class Works:
    """Makes partitions to scrape, each apart from all others."""

    def __init__(self, forks: Forks, site: DemoSite, place: Path) -> None:
        self._forks = forks
        self._place = place
        self._stopping: list[threading.Thread] = []
        _scrape_before(place / "before")
        shop = f"{site.base_url}/2026-01-01"
        self.targets = [
            f"{shop}/products/1",
            f"{shop}/products/2",
            f"{shop}/products/1",  # a duplicate
            "not a URL",
            f"{shop}/products/91",  # missing
            f"{shop}/images/1.png",
            f"{shop}/broken",  # fails, and is submitted once again
            f"{shop}/products/3",
            f"{shop}/api/products/4",
            f"{shop}/products/2",
        ]

    @contextmanager
    def new(self, postgres: str | None = None, **faults: Any) -> Iterator[Work]:
        """A partition that was scraped before, with a new ledger, by default on SQLite, which knows nothing of that."""
        place = self._place / uuid4().hex
        shutil.copytree(self._place / "before", place / "data")
        faults = {**faults, "targets": [{"match": "*/broken", "kind": "error"}]}
        settings = EmulatorSettings(
            token=uuid4().hex, queue_seconds=0, processing_seconds=0, faults=Faults.parse(faults)
        )
        emulator = Emulator(settings=settings).__enter__()
        ledger = f"sqlite:///{place}/ledger.db" if postgres is None else postgres_schema(postgres, place.name)
        try:
            yield Work(self._forks, emulator, ledger, place, self.targets)
        finally:
            # It takes its time.
            self._stopping.append(threading.Thread(target=emulator.__exit__, args=(None, None, None)))
            self._stopping[-1].start()
            shutil.rmtree(place)

    def close(self) -> None:
        for thread in self._stopping:
            thread.join(_PATIENCE)


@pytest.fixture
def works(forks: Forks, site: DemoSite, tmp_path: Path) -> Iterator[Works]:
    works = Works(forks, site, tmp_path)
    yield works
    works.close()
