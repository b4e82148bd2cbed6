"""Decoding stays below a gibibyte, whatever the file claims or holds."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import zoo
from PIL import Image

PEAK = """
import sys
from siamura.pixels import Preprocess, UnreadableImage, read_image
try:
    image = read_image(sys.argv[1])
    Preprocess(size=224, crop_borders=True)(image)
    print(*image.shape)
except UnreadableImage as error:
    print(error)
# Of this process alone: ru_maxrss would begin with what its parent had at its height.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""
BELOW = 1024  # MiB


def peak(file: Path) -> tuple[str, int]:
    """Read a file in a process of its own; give what it printed, and the memory at its height in MiB."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("this system does not tell a process's memory at its height in /proc/self/status")
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(file)], capture_output=True, text=True, check=True, timeout=300
    )
    said, memory = run.stdout.splitlines()
    return said, int(memory)


def bomb(width: int, height: int, depth: int, colour: int) -> bytes:
    """Make a PNG of nothing but white, of some kilobytes."""
    bits = depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * -(-width * bits // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        zoo.chunk(name, part) for name, part in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    )


@pytest.mark.slow
def test_a_decompression_bomb_is_read_within_a_gibibyte(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(bomb(8900, 8900, 8, 0))
    assert file.stat().st_size < 100_000
    said, memory = peak(file)
    assert said == "8900 8900"
    assert memory < BELOW


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["png 16", "png rgb", "png rgba", "png rgb 16", "bmp", "tiff float", "jpeg", "webp"]
)
def test_whatever_is_accepted_is_read_within_a_gibibyte(kind: str, tmp_path: Path) -> None:
    """The largest images of each kind: read, or refused with the reason, never beyond."""
    file, side = tmp_path / "film", 8900
    if kind.startswith("png"):
        depth, colour = {"png 16": (16, 0), "png rgb": (8, 2), "png rgba": (8, 6), "png rgb 16": (16, 2)}[
            kind
        ]
        file.write_bytes(bomb(side, side, depth, colour))
    elif kind == "tiff float":
        file.write_bytes(zoo.tiff(np.zeros((side, side), np.float32)))
    else:
        image = Image.new("RGB", (side, side))
        options = {"progressive": True, "subsampling": 0} if kind == "jpeg" else {}
        image.save(file, kind, **options)
    said, memory = peak(file)
    assert said == f"{side} {side}" or "MB of memory, more than" in said
    assert memory < BELOW


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 16])
def test_a_large_dicom_is_read_within_a_gibibyte(bits: int, tmp_path: Path) -> None:
    file, side = tmp_path / "film", 8900
    rows = np.arange(side, dtype=np.uint16)[:, None] * np.ones(side, np.uint16)
    file.write_bytes(zoo.dicom(rows.astype(f"u{bits // 8}")))
    said, memory = peak(file)
    assert said == f"{side} {side}"
    assert memory < BELOW
