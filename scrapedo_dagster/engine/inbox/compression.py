"""Zstandard for the bodies of deliveries."""

from __future__ import annotations

import pyarrow as pa

HEADER_SIZE = 18
"""Bytes at the start of a compressed body from which `uncompressed_size` reads the size."""

_MAGIC = b"\x28\xb5\x2f\xfd"


def compress(body: bytes) -> bytes:
    """Return the body, compressed."""
    compressed: bytes = pa.Codec("zstd", compression_level=1).compress(body, asbytes=True)
    return compressed


def uncompressed_size(header: bytes) -> int | None:
    """Return the size of a body from the first `HEADER_SIZE` bytes of its compressed form, or None if damaged.

    See "Zstandard frame header" in RFC 8878.
    """
    if len(header) < len(_MAGIC) + 1 or not header.startswith(_MAGIC):
        return None
    descriptor = header[len(_MAGIC)]
    is_single_segment = bool(descriptor & 0b100000)
    width = (int(is_single_segment), 2, 4, 8)[descriptor >> 6]
    # Before the size are that of the window, unless it is the whole, and the id of a dictionary.
    start = len(_MAGIC) + 1 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 0b11]
    if not width or len(header) < start + width:
        return None
    return int.from_bytes(header[start : start + width], "little") + (256 if width == 2 else 0)


def decompress(compressed: bytes) -> bytes | None:
    """Return the body, or None if its compressed form is damaged."""
    try:
        with pa.input_stream(pa.py_buffer(compressed), compression="zstd") as stream:
            body: bytes = stream.read()
    except (OSError, pa.ArrowException):
        return None
    return body
