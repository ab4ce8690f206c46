"""Directory names for arbitrary text, and files that appear complete or not at all.

Names: text is percent-encoded (UTF-8), so that readers of Hive directories decode the original value. A name longer
than 255 bytes is cut between two characters and ends with `!` and a digest of the whole text; `!` occurs in no other
name, so that two texts never share a name.

Files: on a local disk, a file is written under a hidden name in the destination's directory, synced, then renamed. On
other filesystems it is written to this machine's directory for temporary files and uploaded once it is complete; object
stores (S3, GCS) list an upload only when it has ended.
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
    """Return a path component for `text`: at most 255 ASCII bytes, and unique for each text.

    Texts that differ only by letter case have names that differ only by case: on a disk that ignores case they share a
    directory, and `ParquetTable` raises for the second.
    """
    name = prefix + _encode(text)
    if len(name) <= _MAX_NAME_BYTES:
        return name
    digest = "!" + hashlib.sha256(text.encode()).hexdigest()[:32]
    available = _MAX_NAME_BYTES - len(prefix) - len(digest)
    # Cut between characters: half an escaped character cannot be decoded. Each one takes at least a byte.
    length = next(n for n in range(available, -1, -1) if len(_encode(text[:n])) <= available)
    return prefix + _encode(text[:length]) + digest


def _encode(text: str) -> str:
    encoded = quote(text, safe="")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded  # neither hidden nor a step up


@contextmanager
def atomic_file(filesystem: fs.FileSystem, path: str) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` when the block ends.

    If the block raises, `path` is unchanged and no temporary file remains. If the process is killed, a temporary file
    may remain: a hidden one beside a local `path` (see `remove_stale_temporaries`), or one in this machine's directory
    for temporary files.
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
        # Closing a stream to an object store completes even a partial upload. This is one call into Arrow, which no
        # signal handler can interrupt.
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
            if sys.platform == "win32":  # cannot rename an open file; elsewhere it stays locked until it is renamed
                file.close()
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _create_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """Create a hidden file beside `path` that no other writer removes as stale."""
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        file = temporary.open("xb")
        try:
            _try_lock(file)
        except BlockingIOError:
            pass  # another writer has locked it first, to remove it
        except OSError:
            return temporary, file  # some network mounts have no locks; there, no file is ever removed as stale
        else:
            if temporary.exists():
                return temporary, file
        file.close()
        temporary.unlink(missing_ok=True)


def remove_stale_temporaries(filesystem: fs.FileSystem, directory: str) -> None:
    """Remove temporary files of killed writers from `directory`, and keep those of running writers.

    A writer holds a lock on its temporary file, which the system releases when the process dies. Only local disks have
    such files.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    for path in Path(directory).glob(".*.tmp"):
        with suppress(OSError):  # locked, gone, or (Windows) still open: of another writer
            with path.open("rb") as file:
                _try_lock(file)
                if sys.platform != "win32":
                    path.unlink()  # while locked: its writer may be about to lock it
            if sys.platform == "win32":  # cannot delete an open file, not even its own
                path.unlink()


def _try_lock(file: IO[bytes]) -> None:
    """Lock the file or raise OSError. Windows needs no lock: it refuses to delete an open file."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _create_directory(directory: Path) -> None:
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in new:
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Sync a directory, so that the names in it survive a power cut."""
    if sys.platform == "win32":  # directories cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
