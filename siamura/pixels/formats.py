"""What decoders let pass: the damage in a file that would come out as a grey square or a partial picture."""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamura._image_files import judge

Grey = NDArray[np.uint8]

MAX_PIXELS: Final = 80_000_000
"""Images beyond are refused: the largest radiographs, a whole spine stitched together, stay below."""

MAX_MEMORY: Final = 800_000_000
"""Bytes that decoding one image may take at its height, so that a process stays below a gibibyte."""

KEPT_ROWS: Final = 1 << 25
"""Bytes of a PNG's rows beyond which they are counted, not kept."""

ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""The passes of an interlaced PNG: first column and row, and the steps between them."""


class Damaged(ValueError):
    """The reason why bytes are no whole image."""


def kind_of(data: bytes) -> str:
    """Tell the format by content.

    Raises
    ------
    Damaged
        The format is none that siamura reads.
    """
    kind, reason = judge(data)
    if kind is None:
        raise Damaged(reason)
    return kind


def check_size(width: int, height: int) -> None:
    """Refuse images without pixels, and decompression bombs before they are decompressed."""
    if width < 1 or height < 1:
        raise Damaged(f"it has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise Damaged(f"it claims {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")


def check_memory(needed: int) -> None:
    """Refuse what would take too much memory to decode, by an estimate of all copies, before it is decoded."""
    if needed > MAX_MEMORY:
        raise Damaged(
            f"reading it would take some {needed / 1e6:,.0f} MB of memory, more than the {MAX_MEMORY / 1e6:,.0f} MB "
            "allowed; save it as 8-bit or 16-bit grey, or smaller"
        )


class Png(NamedTuple):
    """What the walk through a PNG found.

    Parameters
    ----------
    depth, colour : int
        Bits a sample and the colour type.
    stored : bytes or None
        The same picture, its rows as they were found on decompressing, for a decoder that need not do it again;
        None where more than 8-bit rows of grey or colour make it up: interlacing, transparency, orientation.
    """

    depth: int
    colour: int
    stored: bytes | None


def check_png(data: bytes) -> Png:
    """Walk the chunks of a PNG, compare their checksums and count its pixels, none of which decoders do."""
    view, stream = memoryview(data), list[memoryview]()
    position, depth, colour, simple, palette = 8, 0, 0, True, 0
    while True:
        head = data[position : position + 8]
        if len(head) < 8:
            raise Damaged("it is truncated: its end chunk is missing")
        length, kind = struct.unpack(">I4s", head)
        end = position + 12 + length
        name = kind.decode("latin-1")
        if end > len(data):
            raise Damaged(f"it is truncated: the file ends inside its {name!r} chunk")
        critical = not kind[0] & 0x20
        if critical:
            (found,) = struct.unpack(">I", data[end - 4 : end])
            if zlib.crc32(view[position + 4 : end - 4]) != found:
                raise Damaged(f"it is damaged: the checksum of its {name!r} chunk does not match")
        if position == 8:
            if kind != b"IHDR" or length != 13:
                raise Damaged("it is damaged: it does not begin with a header chunk")
            depth, colour = data[24], data[25]
        elif kind == b"acTL" and length >= 4:
            frames = int.from_bytes(data[position + 8 : position + 12], "big")
            if frames > 1:
                raise Damaged(f"it is an animation of {frames} frames; a radiograph is one image")
        elif kind == b"PLTE":
            palette = length
        elif kind == b"IDAT":
            if colour == 3 and (palette == 0 or palette % 3):
                raise Damaged("it is damaged: the palette that its pixels point into is missing")
            stream.append(view[position + 8 : end - 4])
        elif kind in (b"tRNS", b"eXIf"):
            simple = False
        elif kind == b"IEND":
            rows = _check_rows(data, stream)
            simple = simple and rows is not None and depth == 8 and colour in (0, 2) and not data[28]
            return Png(depth, colour, _stored(data, rows) if simple and rows is not None else None)
        position = end


def _stored(data: bytes, rows: bytes) -> bytes:
    """Write a PNG of the header of `data` and filtered rows, without compression."""
    stride = len(rows) // int.from_bytes(data[20:24], "big")
    if max(rows[::stride]) > 4:
        raise Damaged("it is damaged: a row of its pixels has a filter that does not exist")
    body = b"IDAT" + zlib.compress(rows, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"".join(
        (data[:33], struct.pack(">I", len(body) - 4), body, struct.pack(">I", zlib.crc32(body)), end)
    )


def _check_rows(data: bytes, stream: list[memoryview]) -> bytes | None:
    """Return a PNG's filtered rows, if all are there: Pillow would leave those that are missing black.

    Of large images the rows are only counted, and None is returned.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    check_size(width, height)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    needed = 0
    for x, y, dx, dy in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            needed += rows * (1 + -(-columns * bits // 8))
    found, small = 0, needed <= KEPT_ROWS
    kept = b""
    unpacked = zlib.decompressobj()
    try:
        if small:
            kept = unpacked.decompress(b"".join(stream), needed)
            found = len(kept)
        for part in () if small else stream:
            for start in range(0, len(part), 1 << 15):
                if found >= needed:
                    break
                found += len(unpacked.decompress(part[start : start + (1 << 15)]))
    except zlib.error as error:
        raise Damaged("it is damaged: its compressed pixels cannot be decompressed") from error
    if (missing := needed - found) > 0:
        raise Damaged(f"it is truncated: {missing:,} of its {needed:,} bytes of pixels are missing")
    return kept if small else None


def check_jpeg(data: bytes) -> bytes:
    """Make sure that a JPEG is whole, and return bytes that a decoder cannot finish without.

    libjpeg fills what a scan lacks with grey, and only warns. Where the end marker is taken away it has to
    stop and say that data are missing; a few fill bits in its place let whole scans pass. Images in several
    scans need their end marker, and keep it: of progressive ones it is checked that no scan is missing.
    """
    position, frame, progressive = 2, b"", False
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        head = data[position : position + 4]
        if head[:2] == b"\xff\xd9":
            raise Damaged("it is truncated: its header is not followed by an image")
        if len(head) < 4:
            raise Damaged("it is truncated: the file ends inside its header")
        if head[0] != 0xFF:
            raise Damaged("it is damaged: no marker where one has to be in its header")
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker in (0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
            position += 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, progressive = (
                data[position + 4 : position + 2 + length],
                marker in (0xC2, 0xC6, 0xCA, 0xCE),
            )
        if marker == 0xDA:
            break
        position += 2 + length
    end = data.rfind(b"\xff\xd9", position)
    if end < 0:
        raise Damaged("it is truncated: its end marker is missing")
    if data.find(b"\xff\xd9", position, end) >= 0:
        return data  # a second image follows the first: which end is whose is the decoder's business
    if progressive:
        _check_scans(data, position, end, frame)
        return data
    if data[position + 4 : position + 5] != frame[5:6] or data.find(b"\xff\xda", position + 4, end) >= 0:
        return data
    return data[:end] + b"\xff\x00" * 8


def _check_scans(data: bytes, position: int, end: int, frame: bytes) -> None:
    """Make sure that the scans of a progressive JPEG bring every coefficient to its last bit."""
    lowest = {frame[at]: [99] * 64 for at in range(6, len(frame) - 2, 3)}
    while 0 <= position < end:
        count = data[position + 4]
        tail = data[position + 5 + 2 * count : position + 8 + 2 * count]
        if len(tail) < 3 or tail[1] > 63:
            raise Damaged("it is damaged: the header of one of its scans is invalid")
        for at in range(count):
            for frequency in range(tail[0], tail[1] + 1):
                lowest.setdefault(data[position + 5 + 2 * at], [99] * 64)[frequency] = tail[2] & 15
        position = data.find(b"\xff\xda", position + 2)
    if any(any(bits) for bits in lowest.values()):
        raise Damaged("it is truncated: the last scans of its progressive image are missing")


def webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height of a WebP before its decoder sets memory aside for them."""
    kind = data[12:16]
    if len(data) < 30:
        raise Damaged("it is truncated: the file ends inside its header")
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise Damaged("it is truncated: the file is shorter than its header says")
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise Damaged("it is damaged: its first chunk is no image")
