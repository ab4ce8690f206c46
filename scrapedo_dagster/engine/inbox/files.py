"""The inbox as files, on any filesystem that pyarrow knows.

```
{inbox}/{submission}/{job}/{task}.json.zst               {inbox}/_unknown/{submission}/{job}/{task}.json.zst
```
Files of others below the same location are left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from pyarrow import fs

from scrapedo_dagster.engine.inbox.packing import HEAD, TRIAL, pack, unpack, unpacked_size
from scrapedo_dagster.engine.inbox.protocol import Arrival, Delivery, QuarantineUsage
from scrapedo_dagster.engine.storage.atomic_files import atomic_file, remove_stale_temporaries, safe_name
from scrapedo_dagster.engine.storage.location import Location
from scrapedo_dagster.engine.threads import within

_UNKNOWN = "_unknown"
_SUFFIX = ".json.zst"
_KNOWN_FILE = re.compile(r"(?P<key>[0-9a-f]+-[0-9]+)/(?P<job>[^/]+)/(?P<task>[^/]+)" + re.escape(_SUFFIX))
# What a killed receiver leaves half written has a hidden name.
_ANY_FILE = re.compile(rf"(?:{_UNKNOWN}/[^/]+|[0-9a-f]+-[0-9]+)/[^/]+/(?:[^/]+{re.escape(_SUFFIX)}|\.[^/]+\.tmp)")
_MOST_LISTINGS = 20  # of an object store, before one listing of everything is quicker
_SECONDS = 5.0  # that whoever reads waits
_SECONDS_FOR_MUCH = 20.0  # a body, or a look at all that there is
_PAUSE = 60.0  # seconds until an inbox that did not answer in time is asked again

T = TypeVar("T")


class FileInbox:
    """The inbox below a `Location.uri`. ValueError if pyarrow knows no filesystem for it.

    It is opened by whatever is done first, and again by the next while it is out of reach.
    """

    writers = 16  # they wait most of the time, for the disk or the network

    def __init__(self, uri: str) -> None:
        self._place = Location(uri)
        self._opened: tuple[fs.FileSystem, str] | None = None
        self._check_place()

    def __repr__(self) -> str:
        return f"FileInbox({self._place.shown!r})"

    def put(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Store each in a file of its own. Of two that come at the same moment, either is kept, whole."""
        return [self._write(self._path(each.key, each.job_id, each.task_id), each.body) for each in deliveries]

    def quarantine(self, delivery: Delivery) -> bool:
        """See `Inbox`."""
        if self.quarantine_usage().is_full:
            return False
        directory = f"{_UNKNOWN}/{safe_name(delivery.key) or '_'}"
        self._write(self._path(directory, delivery.job_id, delivery.task_id), delivery.body)
        return True

    def news(self, keys: Collection[str]) -> dict[str, frozenset[Arrival]]:
        """See `Inbox`. Lists each submission's directory, or an object store as a whole."""
        one_by_one = self._is_local or len(keys) <= _MOST_LISTINGS
        found: dict[str, set[Arrival]] = {}
        for directory in keys if one_by_one else [""]:
            for info in self._list(directory):
                if match := _KNOWN_FILE.fullmatch(self._relative(info.path)):
                    arrival = Arrival(unquote(match["job"]), unquote(match["task"]))
                    found.setdefault(match["key"], set()).add(arrival)
        return {key: frozenset(found[key]) for key in keys if key in found}

    def size(self, key: str, job_id: str, task_id: str) -> int | None:
        """See `Inbox`."""
        start = self._read(self._path(key, job_id, task_id), HEAD)
        return None if start is None else unpacked_size(start)

    def read(self, key: str, job_id: str, task_id: str) -> bytes | None:
        """See `Inbox`."""
        packed = self._read(self._path(key, job_id, task_id))
        return None if packed is None else unpack(packed)

    def remove(self, key: str) -> None:
        """See `Inbox`."""
        with suppress(FileNotFoundError):
            self._filesystem.delete_dir(f"{self._base}/{key}")

    def prune(self, older_than: timedelta) -> int:
        """See `Inbox`. Goes by the times of the files; on a filesystem that knows none, nothing is forgotten."""
        oldest = (time.time() - older_than.total_seconds()) * 1e9
        stale = [
            info
            for info in self._list("")
            if _ANY_FILE.fullmatch(self._relative(info.path)) and info.mtime_ns is not None and info.mtime_ns < oldest
        ]
        for info in stale:
            with suppress(FileNotFoundError):
                self._filesystem.delete_file(info.path)
        if self._is_local:
            self._remove_empty_directories(info.path for info in stale)
        return sum(info.path.endswith(_SUFFIX) for info in stale)

    def quarantine_usage(self) -> QuarantineUsage:
        """See `Inbox`."""
        sizes = [info.size for info in self._list(_UNKNOWN) if info.path.endswith(_SUFFIX)]
        return QuarantineUsage(len(sizes), sum(sizes))

    def check(self) -> None:
        """See `Inbox`. Writes a file, and removes it."""
        path = f"{self._base}/_ready"
        remove_stale_temporaries(self._filesystem, self._base)
        with atomic_file(self._filesystem, path) as file:
            file.write(os.urandom(TRIAL))
        with suppress(FileNotFoundError):  # another receiver is just as ready
            self._filesystem.delete_file(path)

    def close(self) -> None:
        """See `Inbox`. Nothing is open."""

    def _check_place(self) -> None:
        self._place.check()

    def _open(self) -> tuple[fs.FileSystem, str]:
        # Not what the location keeps: while one location is being found, Python before 3.12 lets all others wait.
        if self._opened is None:
            self._opened = self._place.opened()
        return self._opened

    @property
    def _filesystem(self) -> fs.FileSystem:
        return self._open()[0]

    @property
    def _base(self) -> str:
        return self._open()[1].rstrip("/")

    @property
    def _is_local(self) -> bool:
        return isinstance(self._filesystem, fs.LocalFileSystem)

    def _path(self, directory: str, job_id: str, task_id: str) -> str:
        return f"{self._base}/{directory}/{safe_name(job_id)}/{safe_name(task_id)}{_SUFFIX}"

    def _relative(self, path: str) -> str:
        return path[len(self._base) + 1 :]

    def _read(self, path: str, amount: int | None = None) -> bytes | None:
        try:
            with self._filesystem.open_input_stream(path, compression=None) as file:
                found: bytes = file.read(amount)
        except FileNotFoundError:
            return None
        return found

    def _write(self, path: str, body: bytes) -> bool:
        if self._filesystem.get_file_info(path).is_file:
            return False
        with atomic_file(self._filesystem, path) as file:
            file.write(pack(body))
        return True

    def _list(self, directory: str) -> list[fs.FileInfo]:
        selector = fs.FileSelector(f"{self._base}/{directory}".rstrip("/"), allow_not_found=True, recursive=True)
        try:
            return [info for info in self._filesystem.get_file_info(selector) if info.is_file]
        except FileNotFoundError:
            return []  # removed while it was listed

    def _remove_empty_directories(self, files: Iterable[str]) -> None:
        for directory in {Path(file).parent for file in files}:
            for each in (directory, directory.parent):
                with suppress(OSError):  # not empty
                    each.rmdir()


class TimeLimitedFileInbox(FileInbox):
    """The inbox for whoever can do without it: what takes too long is a TimeoutError, and then all for a minute.

    An object store that accepts a connection and says nothing would take a minute or two for each.
    """

    def __init__(self, uri: str) -> None:
        self._resting_until = float("-inf")
        super().__init__(uri)

    def news(self, keys: Collection[str]) -> dict[str, frozenset[Arrival]]:
        """See `Inbox`."""
        return self._within(_SECONDS, lambda: FileInbox.news(self, keys))

    def size(self, key: str, job_id: str, task_id: str) -> int | None:
        """See `Inbox`."""
        return self._within(_SECONDS, lambda: FileInbox.size(self, key, job_id, task_id))

    def read(self, key: str, job_id: str, task_id: str) -> bytes | None:
        """See `Inbox`."""
        return self._within(_SECONDS_FOR_MUCH, lambda: FileInbox.read(self, key, job_id, task_id))

    def remove(self, key: str) -> None:
        """See `Inbox`."""
        self._within(_SECONDS, lambda: FileInbox.remove(self, key))

    def prune(self, older_than: timedelta) -> int:
        """See `Inbox`."""
        return self._within(_SECONDS_FOR_MUCH, lambda: FileInbox.prune(self, older_than))

    def _check_place(self) -> None:
        with suppress(TimeoutError):  # S3 is not even opened while another client of this process waits for an answer
            self._within(_SECONDS, super()._check_place)

    def _within(self, seconds: float, work: Callable[[], T]) -> T:
        if time.monotonic() < self._resting_until:
            raise TimeoutError("it did not answer in time before")
        try:
            return within(seconds, work)
        except TimeoutError:
            self._resting_until = time.monotonic() + _PAUSE
            raise
