"""PNGs of a palette that is not there."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from siamura.pixels import UnreadableImage, read_image


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    found = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0\0\1")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in found
    )


def test_a_palette_that_is_missing_is_no_black_square(tmp_path: Path) -> None:
    file = tmp_path / "palette.png"
    file.write_bytes(png([(b"PLTE", bytes([9, 9, 9, 200, 200, 200]))]))
    assert read_image(file).tolist() == [[9, 200]]
    for chunks in ([], [(b"PLTE", b"")], [(b"PLTE", b"\1\2")]):
        file.write_bytes(png(chunks))
        with pytest.raises(UnreadableImage, match="palette"):
            read_image(file)


def test_control_characters_of_a_name_do_not_reach_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "hand\x1b[2J\n.png"
    file.write_bytes(b"no image")
    with pytest.raises(UnreadableImage) as error:
        read_image(file)
    assert error.value.path == str(file)  # the file's true name, for programs
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)
    assert r"hand\x1b[2J\n.png cannot be read: it is truncated" in str(error.value)
