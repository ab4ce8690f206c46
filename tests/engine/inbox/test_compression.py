"""Compressed bodies: their size is known from their start, and damage is found."""

from __future__ import annotations

import os

import pytest

from scrapedo_dagster.engine.inbox.compression import HEADER_SIZE, compress, decompress, uncompressed_size


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_791, 65_792, 3_000_000])
@pytest.mark.parametrize("byte", [None, b"x"])
def test_the_size_is_read_from_the_header(size: int, byte: bytes | None) -> None:
    body = os.urandom(size) if byte is None else byte * size
    compressed = compress(body)
    assert uncompressed_size(compressed[:HEADER_SIZE]) == size
    assert decompress(compressed) == body


def test_damage_is_found() -> None:
    whole = compress(b"x" * 10_000)
    for damaged in (b"", b"no zstd", whole[:5], whole[:-4], whole[:10] + b"!!!" + whole[13:]):
        assert decompress(damaged) in (None, b""), damaged
        assert uncompressed_size(damaged[:HEADER_SIZE]) in (None, 10_000), damaged
