"""Directory names made of arbitrary text, and files that appear whole or not at all.

Names: text is percent-encoded (UTF-8), so that readers of Hive directories get the true value back. A name that would
exceed 255 bytes is cut between two characters and ends with `!` and a digest of the whole text; `!` occurs in no other
name, so that two texts never share one.

Files: on local disks a file grows under a hidden name beside its destination, is synced, then renamed. Elsewhere it
grows in the directory for temporary files of this machine and is uploaded in one go when complete; object stores (S3,
GCS) show it only when all of it is there.
"""

import hashlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from pyarrow import fs

if sys.platform != "win32":
    import fcntl

_MAX_NAME_BYTES = 255
# Creating a directory here would only leave an empty object behind.
_FILESYSTEMS_WITHOUT_DIRECTORIES = frozenset({"s3", "gcs", "abfs"})


def safe_name(text: str, *, prefix: str = "") -> str:
    """The name of one path component for `text`, at most 255 ASCII bytes, a different one for each text.

    Names differ by letter case where their texts do: two texts that differ by nothing else meet in one directory on a
    disk that ignores case (the completion marker of `parquet.py` then refuses the second).
    """
    name = prefix + _encode(text)
    if len(name) <= _MAX_NAME_BYTES:
        return name
    digest = "!" + hashlib.sha256(text.encode()).hexdigest()[:32]
    room = _MAX_NAME_BYTES - len(prefix) - len(digest)
    # Half an escaped character would make the name undecodable for others, so only whole ones are kept: every character
    # takes at least a byte, so the longest that fits has at most `room` of them.
    length = next(n for n in range(room, -1, -1) if len(_encode(text[:n])) <= room)
    return prefix + _encode(text[:length]) + digest


def _encode(text: str) -> str:
    encoded = quote(text, safe="")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded  # neither hidden nor a step up


@contextmanager
def atomic_file(filesystem: fs.FileSystem, path: str) -> Iterator[IO[bytes]]:
    """A file to write to, which stands at `path` once the block has ended, replacing what was there.

    When the block raises, `path` is as it was and no temporary file remains. When the process is killed, a hidden file
    may remain beside a local `path` (see `remove_stale_temporaries`), for other filesystems one among this machine's
    temporary files.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        with _local_file(Path(path)) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="scrapedo-") as directory:
        spool = Path(directory) / "spool"
        with spool.open("wb") as file:
            yield file
        if filesystem.type_name not in _FILESYSTEMS_WITHOUT_DIRECTORIES:
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        # Closing a stream to an object store completes the upload, even a partial one. This is one call into Arrow,
        # which no signal handler can break off half way.
        fs.copy_files(spool.as_posix(), path, fs.LocalFileSystem(), filesystem)


@contextmanager
def _local_file(path: Path) -> Iterator[IO[bytes]]:
    _create_directory(path.parent)
    temporary, opened = _create_temporary(path)
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":  # cannot rename an open file; elsewhere the lock is kept until it is renamed
                file.close()
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _create_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new hidden file beside `path`, which no other writer takes for stale."""
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        file = temporary.open("xb")
        try:
            _try_lock(file)
        except BlockingIOError:
            pass  # another writer has locked it before us, in order to remove it
        except OSError:
            return temporary, file  # some network mounts have no locks; then nothing is ever taken for stale
        else:
            if temporary.exists():
                return temporary, file
        file.close()
        temporary.unlink(missing_ok=True)


def remove_stale_temporaries(filesystem: fs.FileSystem, directory: str) -> None:
    """Remove what killed writers left in `directory`; files of writers still at work, here or elsewhere, stay.

    A writer holds a lock on its temporary file, which the system releases when the process dies. Only local disks can
    have such files.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    for path in Path(directory).glob(".*.tmp"):
        with suppress(OSError):  # locked, gone, or (Windows) still open: somebody else's
            with path.open("rb") as file:
                _try_lock(file)
                if sys.platform != "win32":
                    path.unlink()  # while it is locked: its writer may be about to lock it
            if sys.platform == "win32":  # cannot delete an open file, not even its own
                path.unlink()


def _try_lock(file: IO[bytes]) -> None:
    """Lock or raise OSError. Windows needs no lock: it refuses to delete an open file."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _create_directory(directory: Path) -> None:
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in new:
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    if sys.platform == "win32":  # directories cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
