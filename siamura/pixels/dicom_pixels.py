"""The pixels of a DICOM radiograph, as they are to be looked at.

The order is the standard's (PS3.3 C.7.6.3, C.11.1, C.11.2): stored bits, Modality LUT or rescale, VOI LUT or
window, and only then the inversion of MONOCHROME1.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from siamura._image_files import not_one_grey_image

from .dicom_layout import OVERLAYS, find_layout
from .formats import Damaged, Grey, check_jpeg, check_memory, check_size
from .levels import check_mapping, histogram, look_up

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MISSING: Final = 'reading DICOM files needs pydicom: pip install "siamura[dicom]"'

DECODERS: Final = {
    "JPEG Lossless": "python-gdcm (or pylibjpeg-libjpeg, under the GPL)",
    "JPEG-LS": "python-gdcm (or pyjpegls)",
    "High-Throughput JPEG 2000": "pylibjpeg-openjpeg",
    "JPEG 2000": "pylibjpeg-openjpeg",
    "JPEG": "pillow",
}
"""Whose name begins a transfer syntax's to the package that decodes it; the first match counts."""

NEEDED: Final = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "LUTData",
    "LUTDescriptor",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelData",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PlanarConfiguration",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "FloatPixelData",
    "DoubleFloatPixelData",
)
"""All that is read of the header: nothing that names a person."""


SINGLE: Final = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "NumberOfFrames",
    "PixelRepresentation",
    "Rows",
    "SamplesPerPixel",
)


def decode_dicom(data: bytes) -> tuple[Grey, list[str]]:
    """Decode a DICOM file to 8-bit grey, bone bright.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    ndarray of uint8, shape (H, W)
    list of str
        What of the header was not believed, as the pixels contradict it, and what was done.

    Raises
    ------
    Damaged
        With the reason: colour, several frames, a compression without installed decoder, pixels missing,
        pydicom not installed.
    """
    try:
        from pydicom import dcmread  # an optional extra
    except ImportError as error:
        raise Damaged(MISSING) from error
    tags: list[Any] = [*NEEDED, *OVERLAYS]
    header = dcmread(io.BytesIO(data), force=True, specific_tags=tags)
    _check(header, len(data))
    codes = _codes(header)
    counts = histogram(codes, 1 << 8 * codes.dtype.itemsize)
    layout, said = find_layout(header, codes, counts)
    # From here on everything is done to the table of all codes, not to the pixels.
    stored = layout.values(8 * codes.dtype.itemsize)
    padding, more = _padding(header, stored, counts)
    values, low, high = _modality(header, stored, *layout.range, said)
    if not np.isfinite(values).all():
        raise Damaged("its rescale slope and intercept make values that are not finite")
    grey = _voi(header, values, low, high, said)
    grey, replaced = check_mapping(values, grey, np.where(padding, 0, counts))
    if header.PhotometricInterpretation == "MONOCHROME1":
        grey = 1.0 - grey
    grey[padding] = 0.0
    said += [*more, *([replaced] if replaced else [])]
    return look_up(np.rint(grey * 255.0).astype(np.uint8), codes), said


def _check(header: Dataset, size: int) -> None:
    """Refuse what is no single grey image."""
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise Damaged("its pixels are floating-point numbers, which radiographs have not")
    if "PixelData" not in header:
        if "Rows" not in header:
            raise Damaged("it is no DICOM image: it holds no pixels")
        raise Damaged("it is truncated: its header is not followed by pixels")
    absent = [
        name
        for name in (
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "PixelRepresentation",
            "PhotometricInterpretation",
        )
        if header.get(name) is None
    ]
    if absent:
        raise Damaged(f"its DICOM header lacks {', '.join(absent)}")
    several = [name for name in SINGLE if _count(header.get(name)) > 1]
    if several:
        raise Damaged(
            f"its DICOM header holds several values of {', '.join(several)}, each of which must be one"
        )
    if reason := not_one_grey_image(header):
        raise Damaged(reason)
    allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
    if allocated not in (8, 16) or not 1 <= bits <= allocated:
        raise Damaged(f"it stores {bits} of {allocated} bits a pixel; siamura reads up to 16 of 8 or 16")
    check_size(int(header.Columns), int(header.Rows))
    pixels = int(header.Columns) * int(header.Rows)
    # The header holds the pixels once more; decoders of compressed ones need some copies.
    check_memory(2 * size + pixels * (1 + allocated // 8 * (4 if len(header.PixelData) < pixels else 1)))


def _codes(header: Dataset) -> NDArray[Any]:
    """Give the codes as they are stored, decompressed: uint8 or uint16 (H, W)."""
    from pydicom.pixels.decoders.base import get_decoder  # an optional extra
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian  # an optional extra

    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if syntax is None:
        # Files without the header that names it can only be uncompressed.
        syntax = ImplicitVRLittleEndian if header.original_encoding[0] else ExplicitVRLittleEndian
        header.file_meta.TransferSyntaxUID = syntax
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise Damaged(
            f"its transfer syntax {syntax} is none of the DICOM standard's, so that only its maker's software can "
            "decode it; export it as Explicit VR Little Endian"
        )
    if syntax.is_compressed:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise Damaged(f"its transfer syntax {syntax.name} is none of still images") from None
        if not decoder.is_available:
            package = next(
                (p for name, p in DECODERS.items() if syntax.name.startswith(name)), "siamura[dicom]"
            )
            raise Damaged(
                f"its pixels are compressed as {syntax.name}, and no decoder for it is installed: "
                f"pip install {package}"
            )
    if syntax.name.startswith("JPEG Baseline"):
        pixels = _baseline(header.PixelData)
    elif not syntax.is_compressed and syntax.is_little_endian:
        pixels = _native(header)
    else:
        if syntax.name.startswith("RLE"):
            # The decoder of pylibjpeg-rle panics on damaged data, past every `except Exception`.
            header.pixel_array_options(decoding_plugin="pydicom")
        pixels = header.pixel_array
    if pixels.shape != (int(header.Rows), int(header.Columns)):
        raise Damaged(f"its pixels are {pixels.shape}, but its header says {header.Rows} x {header.Columns}")
    return pixels.view(f"u{pixels.dtype.itemsize}") if pixels.dtype.kind == "i" else pixels


def _native(header: Dataset) -> NDArray[Any]:
    """Take uncompressed values as they are; pydicom's reading loses the bits above a high bit that is not usual."""
    shape = int(header.Rows), int(header.Columns)
    kind = "<u2" if int(header.BitsAllocated) == 16 else "u1"
    needed = shape[0] * shape[1] * np.dtype(kind).itemsize
    if len(header.PixelData) < needed:
        raise Damaged(
            f"it is truncated: {len(header.PixelData):,} of its {needed:,} bytes of pixels are there"
        )
    return np.frombuffer(header.PixelData[:needed], kind).reshape(shape)


def _baseline(encapsulated: bytes) -> NDArray[Any]:
    """Decode a JPEG frame with the check for missing data that pydicom's decoders do not make."""
    from pydicom.encaps import get_frame  # an optional extra

    image = JpegImageFile(io.BytesIO(check_jpeg(get_frame(encapsulated, 0, number_of_frames=1))))
    check_size(*image.size)
    if image.mode != "L":
        raise Damaged(f"its header says grey, but its pixels are {image.mode}")
    image.load()
    return np.asarray(image)


def _modality(
    header: Dataset, stored: NDArray[np.int64], low: int, high: int, said: list[str]
) -> tuple[NDArray[np.float64], float, float]:
    """Apply the Modality LUT or rescale; return the values, and the least and the greatest possible."""
    table = header.get("ModalityLUTSequence")
    if table:
        values, greatest = _looked_up(table[0], stored, low < 0, said)
        return values, 0.0, greatest
    slope, intercept = _first(header.get("RescaleSlope")), _first(header.get("RescaleIntercept"))
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
    if not np.isfinite((slope, intercept)).all() or slope == 0:
        raise Damaged(f"its rescale slope {slope:g} and intercept {intercept:g} make no image")
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return stored.astype(np.float64) * slope + intercept, ends[0], ends[1]


def _voi(
    header: Dataset, values: NDArray[np.float64], low: float, high: float, said: list[str]
) -> NDArray[np.float64]:
    """Apply the VOI LUT or the first window; without either, the whole range of the stored bits."""
    table = header.get("VOILUTSequence")
    if table:
        out, greatest = _looked_up(table[0], np.rint(values).astype(np.int64), low < 0, said)
        return out / greatest
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is None or width is None:
        return (values - low) / (high - low) if high > low else np.zeros_like(values)
    function = str(next(iter(_all(header.get("VOILUTFunction"))), "LINEAR")).upper()
    if not np.isfinite((centre, width)).all() or width <= 0 or (function == "LINEAR" and width < 1):
        raise Damaged(f"its window (centre {centre:g}, width {width:g}) makes no image")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if function != "LINEAR":
        raise Damaged(f"its VOI LUT function {function!r} is unknown")
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _looked_up(
    item: Dataset, values: NDArray[np.int64], signed: bool, said: list[str]
) -> tuple[NDArray[np.float64], float]:
    """Look values up in a LUT of the header; return them, and the greatest value its bits can hold."""
    descriptor = item.get("LUTDescriptor")
    entries = item.get("LUTData")
    if descriptor is None or entries is None or len(descriptor) != 3:
        raise Damaged("one of its lookup tables lacks its descriptor or its data")
    length, first, bits = (int(v) for v in descriptor)
    length = length & 0xFFFF or 1 << 16
    first = (first + 0x8000 & 0xFFFF) - 0x8000 if signed else first & 0xFFFF
    if not 1 <= bits <= 16:
        raise Damaged(f"one of its lookup tables claims {bits} bits")
    if isinstance(entries, bytes):
        # Bytes hold two entries a word for tables of 8 bits, and one word an entry for all others.
        packed = bits <= 8 and len(entries) <= length + 1
        table = np.frombuffer(entries[: len(entries) // 2 * 2], "u1" if packed else "<u2").astype(np.float64)
    else:
        table = np.atleast_1d(np.asarray(entries, dtype=np.float64)) % (1 << 16)  # read as signed, perhaps
    if len(table) < length:
        raise Damaged(f"one of its lookup tables holds {len(table)} of {length} entries")
    if len(table) <= length + 1:
        table = table[:length]  # what is over is there to make it even
    else:
        said.append(
            f"one of its lookup tables declares {length} entries and holds {len(table)}; all were used"
        )
    greatest, needed = (1 << bits) - 1, int(table.max()).bit_length()
    if needed > bits:
        said.append(f"one of its lookup tables declares {bits} bits and holds {needed}; these were taken")
        greatest = (1 << needed) - 1
    return table[np.clip(values - first, 0, len(table) - 1)], float(greatest)


def _padding(
    header: Dataset, stored: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Find the codes that the device has filled in around the image, which belong to the background."""
    of = [int(value) for value in _all(header.get("PixelPaddingValue"))]
    limits = [int(value) for value in _all(header.get("PixelPaddingRangeLimit"))]
    inside = np.zeros(stored.shape, bool)
    span = int(stored.max()) - int(stored.min()) + 1
    for value in of:
        for limit in limits or [value]:
            # The same bits may be written with and without a sign.
            low, high = sorted(
                v - span if v > stored.max() else v + span if v < stored.min() else v for v in (value, limit)
            )
            inside |= (stored >= low) & (stored <= high)
    if inside.any() and counts[inside].sum() >= 0.999 * counts.sum() and (counts[inside] > 0).sum() > 1:
        return np.zeros(stored.shape, bool), [
            f"its PixelPaddingValue {', '.join(map(str, of + limits))} takes in the whole image, and was left out"
        ]
    return inside, []


def _count(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") and not isinstance(value, str) else 1


def _all(value: Any) -> list[Any]:
    """Give the values of an element that should have one, but may have none or several."""
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else [value]


def _first(value: Any) -> float | None:
    """Take the first of several windows: the one that the device meant to be used."""
    values = _all(value)
    return float(values[0]) if values else None
