"""Killed, interrupted and concurrent writers: readers see the old data or the new, never a mixture."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFile
from pyarrow import fs

from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA
from scrapedo_dagster.engine.storage.atomic_files import remove_stale_temporaries
from scrapedo_dagster.engine.storage.tables import ParquetStore, ParquetTable

# Writes generation 2 of "mon", and stops at the point that the second argument names.
WRITER = """
import json, sys, time
import pyarrow as pa
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA

base, stop = sys.argv[1:]

def here(point):
    if point == stop:
        print("here", flush=True)
        time.sleep(600)

pages = ParquetStore(base).table(["shop", "contents"], CONTENTS_SCHEMA)
row = {"task_id": "t", "url": "new", "content": bytes(20_000_000)}
for index in range(2):
    with pages.open_part("mon", 2, index) as part:
        part.write(pa.RecordBatch.from_pylist([row], schema=CONTENTS_SCHEMA))
        here(f"in part {index}")
dumps = json.dumps
json.dumps = lambda *args, **options: here("in the marker") or dumps(*args, **options)
here("before the marker")
pages.complete_generation("mon", 2, range(2))
here("before the removal")
"""


def temporaries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob(".*"))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("in part 0", ["old"]),
        ("in part 1", ["old"]),
        ("before the marker", ["old"]),
        ("in the marker", ["old"]),
        ("before the removal", ["new", "new"]),
    ],
)
def test_killed_writer_leaves_complete_data_which_the_next_cleans_up(point, expected, pages, scrape, urls_of, tmp_path):
    scrape(pages, "mon", 1, ["old"])
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), point], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"here\n"
    writer.kill()
    writer.communicate()

    assert urls_of(pages, "mon") == expected
    assert bool(temporaries(tmp_path)) == point.startswith("in ")

    scrape(pages, "mon", 2, ["again"])
    assert temporaries(tmp_path) == []
    pages.remove_older_generations("mon", 2)
    assert urls_of(pages, "mon") == ["again"]
    assert {part.generation for part in pages.parts("mon")} == {2}


def test_removal_of_older_generations_also_cleans_up(pages, scrape, tmp_path):
    scrape(pages, "mon", 1, ["a"])
    left = Path(pages.parts("mon")[0].path).with_name("._generation.json.0.tmp")
    left.write_bytes(b"{")
    pages.remove_older_generations("mon", 1)
    assert not left.exists()


def test_files_of_a_running_writer_are_kept(pages, write_part, urls_of, tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "in part 0"], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"here\n"
    try:
        [alive] = temporaries(tmp_path)
        write_part(pages, "mon", 2, 0, "faster")
        assert temporaries(tmp_path) == [alive]
    finally:
        writer.kill()
        writer.communicate()


def test_two_writers_of_one_part_both_succeed_and_the_last_part_stays(pages, batch_of, write_part, urls_of, tmp_path):
    with pages.open_part("mon", 1, 0) as slow:
        slow.write(batch_of("slow"))
        write_part(pages, "mon", 1, 0, "fast")
        pages.complete_generation("mon", 1, [0])
        assert urls_of(pages, "mon") == ["fast"]
    assert urls_of(pages, "mon") == ["slow"]
    assert temporaries(tmp_path) == []


def test_writer_that_meets_a_cleaner_before_its_lock_starts_again(pages, write_part, urls_of, tmp_path, monkeypatch):
    directory = tmp_path / "shop" / "contents" / "partition=mon"
    create, cleaned = Path.open, []

    def create_and_meet_a_cleaner(path, mode="r", *args, **options):
        file = create(path, mode, *args, **options)
        if mode == "xb" and not cleaned:
            cleaned.append(path)
            remove_stale_temporaries(fs.LocalFileSystem(), str(directory))
            assert not path.exists()
        return file

    monkeypatch.setattr(Path, "open", create_and_meet_a_cleaner)
    write_part(pages, "mon", 1, 0, "a")
    monkeypatch.undo()
    assert cleaned
    pages.complete_generation("mon", 1, [0])
    assert urls_of(pages, "mon") == ["a"]
    assert temporaries(tmp_path) == []


def test_writer_whose_file_a_cleaner_has_locked_creates_another(pages, write_part, urls_of, tmp_path, monkeypatch):
    lock, cleaner = fcntl.flock, []

    def find_it_locked_once(file, operation):
        if not cleaner:
            [path] = tmp_path.rglob(".*.tmp")
            cleaner.append(path.open("rb"))
            lock(cleaner[0], operation)
        lock(file, operation)

    monkeypatch.setattr("fcntl.flock", find_it_locked_once)
    with pages.open_part("mon", 1, 0):
        [path] = tmp_path.rglob(".*.tmp")
        assert path.stat().st_ino != os.fstat(cleaner[0].fileno()).st_ino
    cleaner[0].close()


def test_two_workers_may_remove_the_older_generations(pages, scrape, tmp_path):
    class Late(ParquetTable):
        """A table whose list of parts is read before another worker removes some."""

        def parts(self, partition):
            return listed

    scrape(pages, "mon", 1, ["a"], ["b"])
    scrape(pages, "mon", 2, ["c"])
    listed = pages.parts("mon")
    pages.remove_older_generations("mon", 2)
    Late(ParquetStore(str(tmp_path)), ["shop", "contents"], None).remove_older_generations("mon", 2)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_part_that_raised_leaves_no_file(any_store, any_pages, batch_of, error, tmp_path):
    def write_and_fail():
        with any_pages.open_part("mon", 1, 0) as part:
            part.write(batch_of("a", content=bytes(20_000_000)))
            part.write(batch_of("b", content=bytes(20_000_000)))
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert any_pages.parts("mon") == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_part_that_raised_leaves_its_predecessor(any_pages, write_part, urls_of):
    write_part(any_pages, "mon", 1, 0, "first")
    any_pages.complete_generation("mon", 1, [0])
    with pytest.raises(RuntimeError), any_pages.open_part("mon", 1, 0):
        raise RuntimeError
    assert urls_of(any_pages, "mon") == ["first"]


def test_interrupt_waits_for_the_upload(memory_store, batch_of, monkeypatch, urls_of):
    pages = memory_store.table(["shop", "contents"], CONTENTS_SCHEMA)

    class Interrupt(BaseException):
        """What Dagster raises in the main thread, from a signal handler, when a run is terminated."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise Interrupt

    class SlowFile(MemoryFile):
        def write(self, data):
            half = len(data) // 2
            written = super().write(data[:half])
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.2)
            return written + super().write(data[half:])

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile", SlowFile)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupt), pages.open_part("mon", 1, 0) as part:
            part.write(batch_of("a"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    monkeypatch.undo()
    pages.complete_generation("mon", 1, [0])
    assert urls_of(pages, "mon") == ["a"]


def test_foreign_files_are_not_read(pages, scrape, urls_of, tmp_path):
    scrape(pages, "mon", 1, ["a"])
    directory = tmp_path / "shop" / "contents" / "partition=mon"
    (directory / ".part-00001-00001.parquet.0.tmp").write_bytes(b"half")
    (directory / "part-00001-00001.parquet.bak").write_bytes(b"other")
    assert urls_of(pages, "mon") == ["a"]
    assert len(pages.parts("mon")) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_part(tmp_path):
    script = """
import os, resource, sys
import pyarrow as pa
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA

pages = ParquetStore(sys.argv[1]).table(["shop", "contents"], CONTENTS_SCHEMA)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
with pages.open_part("mon", 1, 0) as part:
    for n in range(300):
        row = {"task_id": str(n), "url": "u", "content": os.urandom(1_000_000)}
        part.write(pa.RecordBatch.from_pylist([row], schema=CONTENTS_SCHEMA))
        if n == 50:
            warm = peak()
print(peak() - warm)
"""
    grown = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=True, text=True)
    assert int(grown.stdout) < 50, "megabytes more for 250 MB more"
    assert ParquetStore(str(tmp_path)).table(["shop", "contents"], CONTENTS_SCHEMA).parts("mon")[0].bytes > 290_000_000
