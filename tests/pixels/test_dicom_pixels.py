"""DICOM pixels against values worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import zoo
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from siamura.pixels import UnreadableImage, read_image
from siamura.pixels.reading import decode_image


def row(*values: int, kind: str = "u2") -> np.ndarray:
    return np.array([values], dtype=kind)


def read(stored: np.ndarray, **header: object) -> list[int]:
    return decode_image(zoo.dicom(stored, **header))[0].tolist()


def table(first: int, bits: int, *entries: int, keyword: str = "VOILUTSequence") -> dict[str, Sequence]:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = list(entries)
    item["LUTData"].VR = "US"
    if keyword == "ModalityLUTSequence":
        item.ModalityLUTType = "US"
    return {keyword: Sequence([item])}


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(8, 17))
def test_every_depth_photometric_interpretation_and_sign(bits: int, signed: bool, photometric: str) -> None:
    """Without a window, the whole range of the stored bits is 0 to 255; a fifth of it is 51."""
    top = 2**bits - 1
    fifth = {8: 51, 9: 102, 10: 205, 11: 409, 12: 819, 13: 1638, 14: 3277, 15: 6553, 16: 13107}[bits]
    values = np.array([[0, fifth, top]])
    kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
    stored = (values - (2 ** (bits - 1) if signed else 0)).astype(kind)
    expected = [0, 51, 255] if photometric == "MONOCHROME2" else [255, 204, 0]
    assert read(stored, bits=bits, PhotometricInterpretation=photometric) == expected


def test_overlay_bits_above_the_stored_ones_are_left_out() -> None:
    """Old devices put overlays into bits 12 to 15: 0xF000 is 0, 0x8FFF is 4095."""
    assert read(row(0xF000, 0x8FFF, 0x1000 + 2048), bits=12) == [0, 255, 128]


def test_stored_bits_need_not_be_the_lowest() -> None:
    """12 bits with high bit 15: the value 2048 stands as 2048 * 16."""
    assert read(row(0, 2048 << 4, 4095 << 4), bits=12, HighBit=15) == [0, 128, 255]


def test_a_negative_value_of_few_bits_is_sign_extended() -> None:
    """0x0FFF in 12 signed bits is -1: 2047 above the least, -2048, so 2047 / 4095 * 255 = 127.47."""
    stored = np.array([[0x0FFF, 0x0800, 0x07FF]], dtype="u2")
    assert read(stored, bits=12, PixelRepresentation=1) == [127, 0, 255]


def test_a_linear_window() -> None:
    """PS3.3 C.11.2.1.2.1 with c = 100, w = 51: (x - 99.5) / 50 + 0.5, so 74.5 is 0 and 124.5 is 255."""
    window = {"WindowCenter": 100, "WindowWidth": 51}
    # 85: -14.5 / 50 + .5 = .21 -> 53.55; 100: .51 -> 130.05
    assert read(row(0, 74, 85, 100, 125, 4000), bits=12, **window) == [0, 0, 54, 130, 255, 255]


def test_a_window_is_applied_before_the_inversion() -> None:
    window = {"WindowCenter": 100, "WindowWidth": 51, "PhotometricInterpretation": "MONOCHROME1"}
    assert read(row(0, 74, 85, 100, 125, 4000), bits=12, **window) == [255, 255, 201, 125, 0, 0]


def test_the_window_is_in_rescaled_units() -> None:
    """x = 2 * stored - 1000 with c = 0, w = 401: stored 500 is 0, (0.5 / 400 + 0.5) * 255 = 127.8."""
    header = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 401}
    assert read(row(400, 500, 600), bits=12, **header) == [0, 128, 255]


def test_a_negative_slope_turns_the_values() -> None:
    """x = -stored + 4095: the greatest stored value is the darkest."""
    assert read(row(0, 819, 4095), bits=12, RescaleSlope=-1, RescaleIntercept=4095) == [255, 204, 0]


def test_a_rescale_without_a_window_spans_the_stored_range() -> None:
    assert read(row(0, 819, 4095), bits=12, RescaleSlope=0.5, RescaleIntercept=30) == [0, 51, 255]


def test_a_window_of_width_one_is_a_step() -> None:
    """At most c - 0.5 is dark, above it bright."""
    assert read(row(99, 100, 101), bits=12, WindowCenter=100, WindowWidth=1) == [0, 255, 255]


def test_an_exact_linear_window() -> None:
    """C.11.2.1.3.2 with c = 100, w = 50: (x - 100) / 50 + 0.5; 81 is 0.12 -> 30.6."""
    window = {"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "LINEAR_EXACT"}
    assert read(row(75, 81, 100, 125), bits=12, **window) == [0, 31, 128, 255]


def test_a_sigmoid_window() -> None:
    """C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)); a quarter width away, 1 / (1 + e) = 0.2689 -> 68.6."""
    window = {"WindowCenter": 100, "WindowWidth": 40, "VOILUTFunction": "SIGMOID"}
    assert read(row(0, 90, 100, 110, 4000), bits=12, **window) == [0, 69, 128, 186, 255]


def test_the_first_of_several_windows_counts() -> None:
    assert read(row(74, 125), bits=12, WindowCenter=[100, 9], WindowWidth=[51, 7]) == [0, 255]


def test_a_voi_lut() -> None:
    """Values below the first entry take it, those above the last take that; 8 bits span 0 to 255."""
    lut = table(10, 8, 5, 100, 200)
    assert read(row(0, 10, 11, 12, 4000), bits=12, **lut) == [5, 5, 100, 200, 200]


def test_a_voi_lut_of_12_bits_is_scaled_by_its_own_bits() -> None:
    assert read(row(0, 1, 2), bits=12, **table(0, 12, 0, 819, 4095)) == [0, 51, 255]


def test_a_voi_lut_goes_before_a_window_and_is_inverted_after() -> None:
    header = table(0, 8, 5, 100, 200) | {"WindowCenter": 1, "WindowWidth": 1}
    assert read(row(0, 1, 2), bits=12, PhotometricInterpretation="MONOCHROME1", **header) == [250, 155, 55]


def test_a_voi_lut_from_a_negative_value() -> None:
    assert read(row(-3, -2, -1, 9, kind="i2"), **table(-2, 8, 7, 77)) == [7, 7, 77, 77]


def test_a_modality_lut() -> None:
    assert read(row(0, 1, 2), bits=12, **table(0, 12, 4095, 819, 0, keyword="ModalityLUTSequence")) == [
        255,
        51,
        0,
    ]


def test_a_modality_lut_then_a_window() -> None:
    lut = table(0, 12, 74, 85, 125, keyword="ModalityLUTSequence")
    assert read(row(0, 1, 2), bits=12, WindowCenter=100, WindowWidth=51, **lut) == [0, 54, 255]


def test_padding_is_background_in_both_photometric_interpretations() -> None:
    for photometric, middle in (("MONOCHROME1", 204), ("MONOCHROME2", 51)):
        header = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 4095}
        assert read(row(4095, 819), bits=12, **header) == [0, middle]
    assert read(row(9, 20, 819), bits=12, PixelPaddingValue=5, PixelPaddingRangeLimit=25) == [0, 0, 51]


def test_a_file_without_preamble_and_header(tmp_path: Path) -> None:
    """As some archives write them: nothing but the data set, implicit little endian."""
    stored = row(0, 819, 4095, 4095)
    header = dcmread(io.BytesIO(zoo.dicom(stored, bits=12)))
    bare = io.BytesIO()
    header.preamble = None
    del header.file_meta
    header.save_as(bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    file = tmp_path / "bare.dcm"
    file.write_bytes(bare.getvalue())
    assert read_image(file)[0].tolist() == [0, 51, 255, 255]


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"]
)
def test_syntaxes_without_loss(syntax: str) -> None:
    stored = zoo.GREY.astype("u2") * 16
    file = dcmread(io.BytesIO(zoo.dicom(stored, bits=12)))
    out = io.BytesIO()
    if syntax == "1.2.840.10008.1.2.5":
        file.compress(syntax)
    else:
        file.file_meta.TransferSyntaxUID = syntax
    file.save_as(out, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
    assert np.array_equal(decode_image(out.getvalue()), decode_image(zoo.dicom(stored, bits=12)))


@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_2000(signed: bool) -> None:
    stored = zoo.GREY.astype("u2") * 16
    frame = zoo.pillow(Image.fromarray(stored), "JPEG2000", no_jp2=True)
    data = zoo.encapsulated(frame, "1.2.840.10008.1.2.4.90", stored, bits=16)
    assert np.array_equal(decode_image(data), decode_image(zoo.dicom(stored)))
    if signed:
        # Unsigned in the codestream, signed by the header, as some encoders leave it.
        flipped = (stored ^ 0x8000).astype("u2")
        frame = zoo.pillow(Image.fromarray(flipped), "JPEG2000", no_jp2=True)
        data = zoo.encapsulated(frame, "1.2.840.10008.1.2.4.90", stored, bits=16, PixelRepresentation=1)
        assert np.array_equal(decode_image(data), decode_image(zoo.dicom(stored)))


def test_jpeg_baseline() -> None:
    frame = zoo.pillow(Image.fromarray(zoo.GREY), "JPEG", quality=98)
    grey = decode_image(zoo.encapsulated(frame, "1.2.840.10008.1.2.4.50"))
    assert np.array_equal(grey, decode_image(frame))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"WindowCenter": 5, "WindowWidth": 0}, "window .* makes no image"),
        ({"WindowCenter": 5, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "'CUBIC' is unknown"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "rescale slope 0"),
        ({"PhotometricInterpretation": "MONOCHROME3"}, "neither MONOCHROME1 nor"),
        ({"HighBit": 14, "BitsStored": 4}, None),
        ({"HighBit": 2, "BitsStored": 12}, "high bit 2 does not go with 12"),
        ({"BitsStored": 17}, "17 of 16 bits"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 7}, "truncated: 8 of its 56 bytes"),
        ({"PixelRepresentation": None}, "lacks PixelRepresentation"),
    ],
)
def test_headers_that_make_no_image(header: dict[str, object], reason: str | None) -> None:
    data = zoo.dicom(row(0, 1, 2, 3), **header)
    if reason is None:
        decode_image(data)
    else:
        with pytest.raises(UnreadableImage, match=reason):
            decode_image(data)


def test_a_real_leg_has_bright_bone(shared: Path) -> None:
    """CR, MONOCHROME1, 10 of 16 bits, JPEG 2000: the tibia at mid-height, the air beside the leg."""
    grey = read_image(shared / "dicom" / "pydicom-data__RG3_J2KR.dcm")
    assert grey.shape == (1760, 1760)
    bone, muscle, air = grey[500, 830:900], grey[500, 700:760], grey[500, 500:580]
    assert bone.mean() > muscle.mean() + 20
    assert muscle.mean() > air.mean() + 40


def test_a_real_chest_follows_its_tag(shared: Path) -> None:
    """The file is a MONOCHROME2 image that its makers tagged MONOCHROME1, to test the inversion.

    So the reading by the header shows a dark spine, and with the true tag a bright one.
    """
    file = dcmread(shared / "dicom" / "xrv__Fake_MONOHR1.dcm")
    tagged = read_image(shared / "dicom" / "xrv__Fake_MONOHR1.dcm")
    file.PhotometricInterpretation = "MONOCHROME2"
    out = io.BytesIO()
    file.save_as(out)
    mended = decode_image(out.getvalue())
    assert np.array_equal(mended, 255 - tagged)
    lung, spine = mended[300:600, 250:400], mended[300:600, 500:560]
    assert spine.mean() > lung.mean() + 40
