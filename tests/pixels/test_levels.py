"""Headers that contradict their pixels: the data's own range is taken, all greys are used, and it is said."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import zoo
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from siamura.pixels.reading import decode_image


def film(top: int = 4095, side: int = 160) -> np.ndarray:
    """Make a smooth picture that holds every height from 0 to `top`: a cone on a slope, like a limb in its field."""
    y, x = np.mgrid[:side, :side] / (side - 1.0)
    height = np.clip(1 - 2 * np.hypot(x - 0.5, y - 0.5), 0, 1) * 0.9 + 0.1 * x
    return np.rint((height - height.min()) / np.ptp(height) * top).astype(np.uint16)


def scaled(values: np.ndarray) -> np.ndarray:
    """Map the data's own range to 0 to 255."""
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) * (255 / (high - low))).astype(np.uint8)


def lut(first: int, bits: int, entries: np.ndarray, length: int | None = None) -> dict[str, Any]:
    item = Dataset()
    item.LUTDescriptor = [(len(entries) if length is None else length) % 65536, first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    return {"VOILUTSequence": Sequence([item])}


FILM = film()
SIGNED = FILM.astype(np.int16) - 2000
IDENTITY = np.arange(4096)
CURVE = np.rint(4095 * (np.arange(4096) / 4095) ** 0.7)

MARKER = np.zeros(FILM.shape, bool)
MARKER[4:24, 130:155] = True
BORDER = np.ones(FILM.shape, bool)
BORDER[30:130, 30:130] = False

WRONG: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {
    "12 bits under BitsStored 16": (FILM, {}, scaled(FILM)),
    "12 bits under BitsStored 14": (FILM, {"bits": 14}, scaled(FILM)),
    "8 bits under BitsStored 16": (film(255), {}, scaled(film(255))),
    "a VOI LUT that declares 16 bits and holds 12": (
        FILM,
        {"bits": 12, **lut(0, 16, IDENTITY)},
        scaled(FILM),
    ),
    "a curved VOI LUT of wrong bits": (FILM, {"bits": 12, **lut(0, 16, CURVE)}, scaled(CURVE[FILM])),
    "a VOI LUT that declares 8 bits and holds 12": (FILM, {"bits": 12, **lut(0, 8, IDENTITY)}, scaled(FILM)),
    "a VOI LUT that declares too few entries": (
        FILM,
        {"bits": 12, **lut(0, 12, IDENTITY, length=256)},
        scaled(FILM),
    ),
    "a VOI LUT that begins far beyond": (FILM, {"bits": 12, **lut(30000, 12, IDENTITY)}, scaled(FILM)),
    "a window above the data": (FILM, {"WindowCenter": 40000, "WindowWidth": 2000}, scaled(FILM)),
    "a window below the data": (
        FILM + np.uint16(9000),
        {"WindowCenter": 100, "WindowWidth": 200},
        scaled(FILM),
    ),
    "a window far too wide": (FILM, {"bits": 12, "WindowCenter": 32768, "WindowWidth": 65536}, scaled(FILM)),
    "a window far too narrow": (FILM, {"bits": 12, "WindowCenter": 2048, "WindowWidth": 2}, scaled(FILM)),
    "a window of 8 bits over 12": (
        FILM,
        {"bits": 12, "WindowCenter": 128, "WindowWidth": 256},
        scaled(FILM),
    ),
    "a sigmoid beside the data": (
        FILM,
        {"bits": 12, "WindowCenter": -9000, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        scaled(FILM),
    ),
    "a window in units that the slope does not give": (
        FILM,
        {"bits": 12, "WindowCenter": 2048, "WindowWidth": 4096, "RescaleSlope": 0.001, "RescaleIntercept": 0},
        scaled(FILM),
    ),
    "inverted by MONOCHROME1 after the data's own range": (
        FILM,
        {"PhotometricInterpretation": "MONOCHROME1"},
        255 - scaled(FILM),
    ),
    "signed values called unsigned": (
        SIGNED.view(np.uint16),
        {"PixelRepresentation": 0},
        scaled(SIGNED.astype(int)),
    ),
    "unsigned values called signed": (
        film(20000) + np.uint16(23000),
        {"PixelRepresentation": 1},
        scaled(film(20000)),
    ),
    "HighBit 15 for values in the lowest bits": (FILM, {"bits": 12, "HighBit": 15}, scaled(FILM)),
    "BitsStored 10 for values of 12 bits": (FILM, {"bits": 10}, scaled(FILM)),
    "high values under a HighBit of 11": (FILM << 4, {"bits": 12}, scaled(FILM)),
    "one hot pixel under BitsStored 16": (
        np.where(np.arange(FILM.size).reshape(FILM.shape) == 77, 65535, FILM).astype(np.uint16),
        {},
        np.where(np.arange(FILM.size).reshape(FILM.shape) == 77, 255, scaled(FILM)),
    ),
    "a marker of 2 % at 65535 under BitsStored 16": (
        np.where(MARKER, 65535, FILM).astype(np.uint16),
        {},
        np.where(MARKER, 255, scaled(FILM)),
    ),
    "a border of 0 around values from 40000 on": (
        np.where(BORDER, 0, FILM // 2 + 40000).astype(np.uint16),
        {},
        np.where(BORDER, 0, scaled(np.where(BORDER, FILM.max() // 2, FILM // 2))),
    ),
    "a sign where the values fill 16 bits": (film(65535), {"PixelRepresentation": 1}, scaled(film(65535))),
    "no sign where the values fill 16 bits": (
        (film(65535).astype(np.int32) - 32768).astype(np.int16).view(np.uint16),
        {"PixelRepresentation": 0},
        scaled(film(65535)),
    ),
    "padding that takes in the whole image": (
        FILM,
        {"bits": 12, "PixelPaddingValue": 0, "PixelPaddingRangeLimit": 65535},
        scaled(FILM),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_data_are_believed_where_a_dicom_header_contradicts_them(name: str) -> None:
    stored, header, expected = WRONG[name]
    with pytest.warns(UserWarning, match="its "):
        grey = decode_image(zoo.dicom(stored, **header))
    assert np.abs(grey.astype(int) - expected).max() <= 1
    assert len(np.unique(grey)) >= min(200, len(np.unique(stored)))


RIGHT: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {
    "12 of 12 bits": (FILM, {"bits": 12}, np.rint(FILM * (255 / 4095))),
    "12 bits that stand high": (FILM << 4, {"bits": 12, "HighBit": 15}, np.rint(FILM * (255 / 4095))),
    "a dark film": (film(2600), {"bits": 12}, np.rint(film(2600) * (255 / 4095))),
    "signed": (
        SIGNED,
        {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 48, "WindowWidth": 4096},
        None,
    ),
    "a VOI LUT": (FILM, {"bits": 12, **lut(0, 12, CURVE)}, np.rint(CURVE[FILM] * (255 / 4095))),
    "a blank film with noise": (
        np.random.default_rng(0).normal(30000, 12, (200, 200)).astype(np.uint16),
        {},
        np.full((200, 200), 117),
    ),
    "an overlay in bit 12": (
        FILM | (np.indices(FILM.shape)[0] // 3 == 20).astype(np.uint16) << 12,
        {"bits": 12},
        np.rint(FILM * (255 / 4095)),
    ),
    "least and greatest value that are not true": (
        FILM,
        {"bits": 12, "SmallestImagePixelValue": 4000, "LargestImagePixelValue": 17},
        np.rint(FILM * (255 / 4095)),
    ),
    "a window that clips the air": (
        FILM,
        {"bits": 12, "WindowCenter": 1500, "WindowWidth": 1001},
        np.rint(255 * np.clip((FILM - 1499.5) / 1000 + 0.5, 0, 1)),
    ),
    "saturated air beside soft tissue": (
        np.where(np.indices(FILM.shape)[1] < 40, 4095, film(1900)).astype(np.uint16),
        {"bits": 12},
        np.rint(np.where(np.indices(FILM.shape)[1] < 40, 4095, film(1900)) * (255 / 4095)),
    ),
    "black and white only": (
        np.where(FILM > 2000, 4095, 0).astype(np.uint16),
        {"bits": 12},
        np.where(FILM > 2000, 255, 0),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_header_that_fits_is_followed_in_silence(name: str) -> None:
    stored, header, expected = RIGHT[name]
    if expected is None:
        expected = np.rint(255 * np.clip((stored - 47.5) / 4095 + 0.5, 0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grey = decode_image(zoo.dicom(stored, **header))
    assert np.abs(grey.astype(int) - expected).max() <= 1


HOT = FILM.copy()
HOT[3, 5], HOT[9, 9], HOT[50, 60] = 65535, 65535, 20000
HOT_EXPECTED = np.where(HOT != FILM, 255, scaled(FILM))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (zoo.png(HOT, 16, 0), HOT_EXPECTED),
        (zoo.png(np.stack((HOT,) * 3, -1), 16, 2), HOT_EXPECTED),
        (zoo.png(np.stack((HOT, np.full_like(HOT, 65535)), -1), 16, 4), HOT_EXPECTED),
        (zoo.tiff(HOT), HOT_EXPECTED),
        (zoo.tiff(HOT, ">"), HOT_EXPECTED),
        (zoo.tiff(HOT, t262=0), 255 - HOT_EXPECTED),
        (zoo.tiff(HOT.astype(np.int32) * 1000), HOT_EXPECTED),
        (zoo.tiff(HOT.astype(np.float32) / 7 - 3), HOT_EXPECTED),
        (
            zoo.tiff(np.where(HOT > 5000, -30000, FILM).astype(np.int16)),
            np.where(HOT > 5000, 0, scaled(FILM)),
        ),
    ],
    ids=[
        "png",
        "png rgb",
        "png alpha",
        "tiff",
        "tiff >",
        "tiff inverse",
        "tiff 32",
        "tiff float",
        "tiff cold",
    ],
)
def test_a_few_hot_pixels_do_not_take_the_range(data: bytes, expected: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="3 pixels lie far off the others"):
        grey = decode_image(data)
    assert np.abs(grey.astype(int) - expected).max() <= 1
    assert len(np.unique(grey)) >= 200


def test_a_border_and_a_marker_do_not_take_the_range() -> None:
    body = FILM // 4 + 33000
    image = np.where(MARKER, 65535, np.where(BORDER, 0, body)).astype(np.uint16)
    inside = body[~BORDER]
    expected = (image.astype(float) - inside.min()) * (255 / np.ptp(inside.astype(float)))
    with pytest.warns(UserWarning, match="lie far off the others"):
        grey = decode_image(zoo.png(image, 16, 0))
    assert np.abs(grey.astype(int) - np.clip(np.rint(expected), 0, 255)).max() <= 1
    real = np.where(BORDER, -3.4e38, body / 7.0).astype(np.float32)
    with pytest.warns(UserWarning, match="lie far off the others"):
        assert len(np.unique(decode_image(zoo.tiff(real)))) >= 200


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_that_has_its_sign_wrong(order: str) -> None:
    with pytest.warns(UserWarning, match="its header says unsigned values"):
        grey = decode_image(zoo.tiff(SIGNED.view(np.uint16), order))
    assert np.abs(grey.astype(int) - scaled(FILM)).max() <= 1
    high = film(20000) + np.uint16(23000)
    with pytest.warns(UserWarning, match="its header says signed values"):
        grey = decode_image(zoo.tiff(high.view(np.int16), order))
    assert np.abs(grey.astype(int) - scaled(high)).max() <= 1


def test_significant_bits_of_a_png_change_nothing() -> None:
    wrong = zoo.png(FILM, 16, 0, zoo.chunk(b"sBIT", b"\x03"))
    assert np.array_equal(decode_image(wrong), decode_image(zoo.png(FILM, 16, 0)))


def test_a_small_bright_bone_on_black_is_no_hot_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 40, (1000, 800)).astype(np.uint16)
    image[100:200, 100:180] = film(30000, 100)[:, :80]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode_image(zoo.png(image, 16, 0)), scaled(image))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_of_several_values_and_of_the_other_sign(photometric: str) -> None:
    stored = FILM.copy()
    stored[:20], stored[-20:] = 4095, 4094
    header = {"bits": 12, "PhotometricInterpretation": photometric}
    data = zoo.dicom(stored, PixelPaddingValue=[4095, 4094], **header)
    grey = decode_image(data)
    assert not grey[:20].any()
    assert not grey[-20:].any()
    assert len(np.unique(grey)) >= 200
    signed = SIGNED.copy()
    signed[:20] = -2000
    plain = zoo.dicom(signed, PixelRepresentation=1, WindowCenter=48, WindowWidth=4096)
    file = dcmread(io.BytesIO(plain))
    file.add_new("PixelPaddingValue", "US", 63536)  # -2000, written without its sign
    out = io.BytesIO()
    file.save_as(out)
    assert not decode_image(out.getvalue())[:20].any()


@pytest.mark.parametrize("keyword", ["Rows", "BitsStored", "HighBit", "PixelRepresentation"])
def test_several_values_where_one_must_be(keyword: str) -> None:
    with pytest.raises(ValueError, match=f"several values of {keyword}"):
        decode_image(zoo.dicom(FILM, **{keyword: [12, 13]}))


def test_a_private_transfer_syntax_is_named_with_the_remedy() -> None:
    data = zoo.encapsulated(b"....", "1.2.840.113619.5.9")
    with pytest.raises(ValueError, match=r"transfer syntax 1\.2\.840\.113619\.5\.9 is none .* export it"):
        decode_image(data)


def test_every_dicom_of_the_form_reads_as_before() -> None:
    """No pixel of a well-formed file changes: the table over codes gives what arithmetic over pixels gave."""
    rng = np.random.default_rng(0)
    for bits in (8, 10, 12, 16):
        stored = rng.integers(0, 2**bits, (64, 64)).astype(np.uint16)
        centre, width = 2 ** (bits - 1) + 7, 2**bits * 0.7
        grey = decode_image(zoo.dicom(stored, bits=bits, WindowCenter=centre, WindowWidth=width))
        ideal = np.clip((stored - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
        assert np.array_equal(grey, np.rint(255 * ideal))


def test_pillow_agrees_on_what_was_written() -> None:
    """The test's own pictures are what they say."""
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(zoo.png(HOT, 16, 0)))), HOT)
    assert len(np.unique(scaled(FILM))) >= 250
