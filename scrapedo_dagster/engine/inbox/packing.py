"""DeliveredTasks bodies as they are stored: compressed by zstd."""

from __future__ import annotations

import pyarrow as pa

TRIAL = 64 * 1024
"""Bytes that are written to see whether there is room on the disk: a file of a few has room on a full one."""


HEAD = 18
"""Bytes of what was packed that tell how large it was."""


_MAGIC = b"\x28\xb5\x2f\xfd"


def pack(body: bytes) -> bytes:
    """Compressed."""
    packed: bytes = pa.Codec("zstd", compression_level=1).compress(body, asbytes=True)
    return packed


def unpacked_size(start: bytes) -> int | None:
    """How large the first `HEAD` bytes of what was packed say that it was, or None where these are damaged.

    See "Zstandard frame header" in RFC 8878.
    """
    if len(start) < len(_MAGIC) + 1 or not start.startswith(_MAGIC):
        return None
    descriptor = start[len(_MAGIC)]
    is_one_segment = bool(descriptor & 0b100000)
    width = (int(is_one_segment), 2, 4, 8)[descriptor >> 6]
    # Between them are the size of the window, where it is not that of the whole, and the id of a dictionary.
    at = len(_MAGIC) + 1 + (not is_one_segment) + (0, 1, 2, 4)[descriptor & 0b11]
    if not width or len(start) < at + width:
        return None
    return int.from_bytes(start[at : at + width], "little") + (256 if width == 2 else 0)


def unpack(packed: bytes) -> bytes | None:
    """What was packed, or None where it is damaged."""
    try:
        with pa.input_stream(pa.py_buffer(packed), compression="zstd") as stream:
            body: bytes = stream.read()
    except (OSError, pa.ArrowException):
        return None
    return body
