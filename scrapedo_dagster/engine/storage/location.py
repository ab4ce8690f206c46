"""Locations of files: paths, and URIs of any filesystem that pyarrow knows."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs


@dataclass(frozen=True)
class Location:
    """A file or a directory. Nothing is opened before the first use.

    `uri` is a path (relative to the current directory; `~` is the home directory) or a URI of any filesystem that
    pyarrow knows: `s3://bucket/prefix`, `gs://...`, `abfs://...`, `file:///...`, with pyarrow's options as query.
    """

    uri: str

    @property
    def is_path(self) -> bool:
        """Whether this is a path on this machine, not a URI."""
        return "://" not in self.uri

    @property
    def shown(self) -> str:
        """The location without credentials and options, for messages and other tools."""
        if self.is_path:
            return self.path
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem of the location. Raises ValueError if pyarrow knows none for the URI."""
        return self._opened[0]

    @property
    def path(self) -> str:
        """The path of the location on its filesystem."""
        return self._opened[1]

    def check(self) -> None:
        """Raise ValueError if pyarrow knows no filesystem for the URI. Sends nothing over a network."""
        parts = urlsplit(self.uri)
        if parts.scheme == "s3" and "region=" not in parts.query:
            # Without it, pyarrow asks S3 for the region of the bucket.
            parts = parts._replace(query="&".join(filter(None, [parts.query, "region=us-east-1"])))
        with suppress(OSError):  # unreachable now
            (self if self.is_path else Location(parts.geturl())).opened()

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        return self.opened()

    def opened(self) -> tuple[fs.FileSystem, str]:
        """Open the filesystem, and return it with the path.

        Raises:
            ValueError: pyarrow knows no filesystem for the URI.
            OSError: the filesystem cannot be reached, such as S3 for the region of the bucket.
        """
        if self.is_path:
            return fs.LocalFileSystem(), Path(self.uri).expanduser().absolute().as_posix()
        try:
            filesystem, path = fs.FileSystem.from_uri(self.uri)
        except pa.ArrowInvalid as error:  # its message has the URI, which may have credentials
            raise ValueError(
                f"{self.shown!r} is on no filesystem that pyarrow knows: {str(error).replace(self.uri, self.shown)}"
            ) from None
        return filesystem, path
