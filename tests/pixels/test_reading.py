"""read_image on every kind of file, good and bad."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import zoo
from PIL import Image, ImageFile

from siamura.pixels import UnreadableImage, read_image
from siamura.pixels.levels import window
from siamura.pixels.reading import decode_image

GOOD = zoo.all_of(zoo.good)
BAD = zoo.all_of(zoo.bad)


def test_the_zoo_is_large() -> None:
    assert len(GOOD) >= 20
    assert len(BAD) >= 20
    assert len(GOOD) + len(BAD) >= 40


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_read(name: str, tmp_path: Path) -> None:
    case = GOOD[name]
    file = tmp_path / case.name
    file.write_bytes(case.data)
    grey = read_image(file)
    assert grey.dtype == np.uint8
    assert grey.shape == case.expected.shape
    assert grey.flags.c_contiguous
    assert np.abs(grey.astype(int) - case.expected).max() <= case.within


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = BAD[name]
    file = tmp_path / case.name
    file.write_bytes(case.data)
    with pytest.raises(UnreadableImage, match=case.reason) as caught:
        read_image(file)
    assert caught.value.path == str(file)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
    assert str(caught.value).count("\n") == 0
    if not name.startswith("tiff"):  # libtiff speaks for itself
        assert capfd.readouterr() == ("", "")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="there is no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(UnreadableImage, match="it is a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableImage, match="no regular file"):
        read_image(tmp_path / "pipe")
    with pytest.raises(UnreadableImage, match="null"):
        read_image("a\0b")
    large = tmp_path / "large.png"
    with open(large, "wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(UnreadableImage, match="more than the 1,073,741,824 allowed"):
        read_image(large)


def test_every_cut_of_a_small_file_is_noticed() -> None:
    """Whole, or refused: no length in between gives a picture."""
    image = Image.fromarray(zoo.GREY)
    for kind, options in (("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})):
        data = zoo.pillow(image.convert("RGB") if kind == "WEBP" else image, kind, **options)
        decode_image(data)
        for length in range(len(data)):
            with pytest.raises(UnreadableImage):
                decode_image(data[:length])


def test_a_lost_block_in_a_jpeg_is_noticed() -> None:
    """Bytes lost in the middle of a scan: a decoder would only warn, and fill up with grey."""
    texture = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    data = zoo.pillow(Image.fromarray(texture), "JPEG", quality=90)
    start = data.index(b"\xff\xda") + 12
    for lost in range(start, len(data) - 1100, 1000):
        with pytest.raises(UnreadableImage, match="truncated"):
            decode_image(data[:lost] + data[lost + 1000 :])


def test_pillows_switch_for_truncated_images_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training scripts often set it; for a radiograph it would mean a grey square."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for name in ("png cut in its data", "png with missing rows", "jpeg cut in its scan", "webp cut"):
        with pytest.raises(UnreadableImage, match="truncated"):
            decode_image(BAD[name].data)


def test_a_switch_for_large_images_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for name in ("png bomb", "jpeg bomb", "tiff bomb", "bmp bomb", "webp bomb", "dicom bomb"):
        with pytest.raises(UnreadableImage, match="claims"):
            decode_image(BAD[name].data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 30}])
def test_jpegs_agree_with_opencv(options: dict[str, object]) -> None:
    random = np.random.default_rng(1)
    colour = cv2.GaussianBlur(random.integers(0, 256, (61, 83, 3), dtype=np.uint8), (0, 0), 2)
    data = zoo.pillow(Image.fromarray(colour), "JPEG", **options)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(decode_image(data).astype(int) - theirs).max() <= 1


def test_grey_kept_as_colour_is_untouched() -> None:
    """MURA mixes both: the same picture must give the same grey."""
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode_image(zoo.png(np.stack((every,) * 3, -1), 8, 2)), every)


def test_window_keeps_the_order_of_values() -> None:
    values = np.array([[5, 6, 900], [40000, 65535, 5]], dtype=np.uint16)
    grey, remarks = window(values)
    assert remarks == []
    assert grey[0, 0] == 0
    assert grey[1, 1] == 255
    assert (np.diff(grey.ravel()[np.argsort(values.ravel(), kind="stable")].astype(int)) >= 0).all()


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("a.png", "it is empty")))
    assert isinstance(error, ValueError)
    assert (error.path, error.reason) == ("a.png", "it is empty")
    assert str(error) == "a.png cannot be read: it is empty."


def test_reading_needs_neither_torch_nor_pydicom(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(GOOD["png grey 8 bit"].data)
    scan = tmp_path / "a.dcm"
    scan.write_bytes(GOOD["dicom 8 bit"].data)
    code = f"""
import sys
sys.modules["pydicom"] = None
from siamura.pixels.reading import read_image, UnreadableImage
assert read_image({str(file)!r}).shape == (24, 40)
assert "torch" not in sys.modules
try:
    read_image({str(scan)!r})
except UnreadableImage as error:
    assert 'pip install "siamura[dicom]"' in str(error), error
else:
    raise SystemExit("read a DICOM file without pydicom")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_pathlib_and_a_str_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(GOOD["png grey 8 bit"].data)
    assert np.array_equal(read_image(file), read_image(str(file)))


def test_an_image_is_the_callers_own() -> None:
    grey = decode_image(GOOD["jpeg grey"].data)
    grey[0, 0] = 1
    assert io.BytesIO(GOOD["jpeg grey"].data).read() == GOOD["jpeg grey"].data


def filtered_png(rows: np.ndarray, colour: int) -> bytes:
    """Write rows 7 pixels wide that begin with their filter."""
    head = struct.pack(">IIBBBBB", 7, len(rows), 8, colour, 0, 0, 0)
    body = zlib.compress(rows.tobytes())
    chunks = zoo.chunk(b"IHDR", head) + zoo.chunk(b"IDAT", body) + zoo.chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("filtered", range(5))
def test_png_rows_of_every_filter_come_out_as_pillow_decodes_them(mode, filtered):
    """8-bit PNGs take a way of their own: their rows are written again, without compression, for OpenCV."""
    channels = len(mode)
    rows = np.random.default_rng(0).integers(0, 256, (9, 1 + 7 * channels), dtype=np.uint8)
    rows[:, 0] = filtered
    data = filtered_png(rows, 0 if mode == "L" else 2)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    np.testing.assert_array_equal(decode_image(data), wanted)


def test_a_png_row_of_no_known_filter_is_refused():
    rows = np.zeros((9, 8), np.uint8)
    rows[5, 0] = 5
    with pytest.raises(UnreadableImage, match="a filter that does not exist"):
        decode_image(filtered_png(rows, 0))
