"""Mutated files: whatever the bytes, an image or UnreadableImage, soon, and nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zoo
from PIL import Image
from pydicom import dcmread

from siamura.pixels import UnreadableImage
from siamura.pixels.reading import decode_image

TEXTURE = np.random.default_rng(5).integers(0, 256, (40, 56), dtype=np.uint8)


def seeds() -> dict[str, bytes]:
    """One whole file of each family to start from."""
    image = Image.fromarray(TEXTURE)
    colour = Image.fromarray(np.stack((TEXTURE, TEXTURE.T.reshape(40, 56), 255 - TEXTURE), -1))
    deep = TEXTURE.astype(np.uint16) * 16
    rle = dcmread(io.BytesIO(zoo.dicom(deep, bits=12)))
    rle.compress("1.2.840.10008.1.2.5")
    packed = io.BytesIO()
    rle.save_as(packed)
    return {
        "png": zoo.png(TEXTURE, 8, 0),
        "png rgb": zoo.pillow(colour, "PNG"),
        "png 16 bit": zoo.png(deep, 16, 0),
        "png palette": zoo.pillow(colour.quantize(16), "PNG"),
        "jpeg": zoo.pillow(image, "JPEG"),
        "jpeg rgb": zoo.pillow(colour, "JPEG", exif=zoo.exif(6)),
        "jpeg progressive": zoo.pillow(colour, "JPEG", progressive=True),
        "dicom": zoo.dicom(
            deep, bits=12, WindowCenter=800, WindowWidth=900, RescaleSlope=2, RescaleIntercept=-5
        ),
        "dicom jpeg": zoo.encapsulated(zoo.pillow(image, "JPEG"), "1.2.840.10008.1.2.4.50", TEXTURE),
        "dicom jpeg 2000": zoo.encapsulated(
            zoo.pillow(Image.fromarray(deep), "JPEG2000", no_jp2=True), "1.2.840.10008.1.2.4.90", deep
        ),
        "dicom rle": packed.getvalue(),
    }


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Flip bits, overwrite, cut, repeat and drop stretches of bytes."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        body = bytearray(data)
        # Headers decide most: half of the changes fall into the first 400 bytes.
        for _ in range(int(random.integers(1, 5))):
            top = min(400, len(body)) if random.random() < 0.5 else len(body)
            at = int(random.integers(0, max(top, 1)))
            length = int(random.integers(1, 9))
            kind = int(random.integers(0, 6))
            if kind == 0 and at < len(body):
                body[at] ^= 1 << int(random.integers(0, 8))
            elif kind == 1:
                body[at : at + length] = random.bytes(length)
            elif kind == 2:
                body[at : at + length] = bytes((int(random.choice((0, 255, 127, 128))),)) * length
            elif kind == 3:
                del body[at : at + length]
            elif kind == 4:
                body[at:at] = body[at : at + 8 * length]
            else:
                del body[at + 8 * length if random.random() < 0.7 else at :]
        yield bytes(body)


def run(name: str, count: int, seed: int) -> tuple[int, int]:
    """Decode the mutants of one seed; count the images and the refusals."""
    images = refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mutant in mutants(seeds()[name], count, seed):
            try:
                grey = decode_image(mutant, "mutant.dcm" if name.startswith("dicom") else "mutant.png")
            except UnreadableImage:
                refused += 1
            else:
                assert grey.dtype == np.uint8
                assert grey.ndim == 2
                assert grey.size
                images += 1
    return images, refused


def in_a_process(names: list[str], count: int, seed: int) -> str:
    """Run in a process of its own, so that a crash or an endless loop is a failed test, not a lost run."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import logging; logging.disable()\n"
        "from test_fuzz import run\n"
        f"for name in {names!r}:\n"
        f"    print(name, *run(name, {count}, {seed}), sep=',')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return done.stdout


def check(report: str, names: list[str], count: int) -> None:
    lines = dict(line.split(",", 1) for line in report.splitlines())
    assert list(lines) == names
    for name in names:
        images, refused = map(int, lines[name].split(","))
        assert images + refused == count
        assert refused > count / 10, name  # the mutations bite


@pytest.mark.parametrize("family", ["png", "jpeg", "dicom"])
def test_mutants(family: str) -> None:
    names = [name for name in seeds() if name.startswith(family)]
    check(in_a_process(names, 250, seed=11), names, 250)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_mutants(seed: int) -> None:
    names = list(seeds())
    check(in_a_process(names, 2500, seed=100 + seed), names, 2500)
