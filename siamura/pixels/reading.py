"""An image file as 8-bit grey."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import fromarray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from siamura._files import printable

from .dicom_layout import Layout, check_sign
from .dicom_pixels import decode_dicom
from .formats import Damaged, Grey, check_jpeg, check_memory, check_png, check_size, kind_of, webp_size
from .levels import LEAST_PIXELS, chunks, histogram, window

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_BYTES: Final = 1 << 30
"""Files beyond are refused before they are read."""


TRANSPARENT: Final = "every pixel of it is transparent"


class UnreadableImage(ValueError):
    """A file that cannot be read as an image.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it.

    Examples
    --------
    >>> raise UnreadableImage("hand.png", "it is empty")
    Traceback (most recent call last):
        ...
    siamura.pixels.reading.UnreadableImage: hand.png cannot be read: it is empty.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path = os.fspath(path)
        self.reason = reason.rstrip(".")
        super().__init__(f"{printable(path)} cannot be read: {self.reason}.")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        """Travel between processes: an exception's own way would call with one argument."""
        return type(self), (self.path, self.reason)


def read_image(path: str | os.PathLike[str]) -> Grey:
    """Read a radiograph as 8-bit grey.

    PNG, JPEG, TIFF, BMP, WebP or DICOM, distinguished by content. Colour becomes its luma (ITU-R BT.601), the
    transparent becomes black, EXIF rotation is applied. Images of more than 8 bits are windowed by their
    own range: the darkest pixel becomes 0, the brightest 255. DICOM goes through its Modality LUT and its
    VOI LUT or window, and MONOCHROME1 is inverted after that, so that bone is bright.

    A header is checked against the pixels. Where it contradicts them (bits declared that no pixel has, a window
    beside the data), or a few hot pixels would take the range for themselves, the range of the data is taken,
    and a UserWarning says so.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ndarray of uint8, shape (H, W)

    Raises
    ------
    UnreadableImage
        With the path and the reason: missing, empty, truncated, damaged, of another format, of more than one
        frame, larger than 80 million pixels, or such that decoding it takes more than a gigabyte of memory. A
        ValueError.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, cv2
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "hand.png"
    >>> _ = cv2.imwrite(str(file), np.array([[100, 300], [500, 1120]], dtype=np.uint16))
    >>> read_image(file)
    array([[  0,  50],
           [100, 255]], dtype=uint8)
    """
    return decode_image(read_bytes(path), path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file that may hold an image.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    bytes

    Raises
    ------
    UnreadableImage
        It is missing, a folder, a pipe, larger than a gibibyte, or may not be read.
    """
    try:
        state = os.stat(path)
        if stat.S_ISDIR(state.st_mode):
            raise UnreadableImage(path, "it is a folder")
        if not stat.S_ISREG(state.st_mode):
            raise UnreadableImage(path, "it is no regular file")
        if state.st_size > MAX_BYTES:
            raise UnreadableImage(
                path, f"its {state.st_size:,} bytes are more than the {MAX_BYTES:,} allowed"
            )
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UnreadableImage(path, "there is no such file") from None
    except UnreadableImage:
        raise
    except (OSError, ValueError) as error:
        raise UnreadableImage(path, (getattr(error, "strerror", None) or str(error)).lower()) from error


def decode_image(data: bytes, path: str | os.PathLike[str] = "the image") -> Grey:
    """Decode the bytes of an image file, as :func:`read_image` does.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : path
        Where it comes from, for messages.

    Returns
    -------
    ndarray of uint8, shape (H, W)

    Raises
    ------
    UnreadableImage
        As for :func:`read_image`.
    """
    grey, remarks = decode_with_remarks(data, path)
    if remarks:
        warnings.warn(join_remarks(path, remarks), UserWarning, stacklevel=2)
    return grey


def join_remarks(path: str | os.PathLike[str], remarks: list[str]) -> str:
    """Say what of one file's header was not used."""
    return f"{printable(path)}: {'; '.join(remarks)}."


def decode_with_remarks(data: bytes, path: str | os.PathLike[str] = "the image") -> tuple[Grey, list[str]]:
    """Decode the bytes of an image file, and say what of its header was not used.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : path
        Where it comes from, for messages.

    Returns
    -------
    ndarray of uint8, shape (H, W)
    list of str
        Empty for files whose header and pixels agree.

    Raises
    ------
    UnreadableImage
        As for :func:`read_image`.
    """
    try:
        kind = kind_of(data)
        if kind == "DICOM":
            return decode_dicom(data)
        return _decode(data, kind)
    except Damaged as error:
        raise UnreadableImage(path, str(error)) from error.__cause__
    except MemoryError as error:
        raise UnreadableImage(path, "it needs more memory than there is") from error
    except Exception as error:
        # Decoders raise what they like on damaged bytes (struct.error, SyntaxError, KeyError, ...).
        said = _said(error)
        if "truncated" in said:
            raise UnreadableImage(
                path, f"it is truncated: pixels are missing from its {kind} data"
            ) from error
        raise UnreadableImage(path, f"its {kind} data are damaged ({said})") from error


def _decode(data: bytes, kind: str) -> tuple[Grey, list[str]]:
    """Decode anything but DICOM. The plugins are called by name: Pillow's own search tries all formats."""
    deep = False
    if kind == "PNG":
        png = check_png(data)
        if png.stored is not None:
            return _stored(png.stored), []
        deep = png.depth == 16 and png.colour != 0
        image: ImageFile = PngImageFile(io.BytesIO(data))
    elif kind == "JPEG":
        image = JpegImageFile(io.BytesIO(check_jpeg(data)))
    elif kind == "TIFF":
        image = TiffImageFile(io.BytesIO(data))
        bits = image.tag_v2.get(258, (1,))
        deep = len(bits) > 1 and max(bits) > 8
    elif kind == "BMP":
        image = BmpImageFile(io.BytesIO(data))
    else:
        check_size(*webp_size(data))
        image = WebPImageFile(io.BytesIO(data))
    check_size(*image.size)
    check_memory(len(data) + _bytes_a_pixel(image.mode, kind, deep) * image.size[0] * image.size[1])
    frames = 1 if kind in ("PNG", "JPEG") else getattr(image, "n_frames", 1)
    if frames > 1:
        raise Damaged(f"it holds {frames} images; a radiograph is one: save the right one by itself")
    turn = image.getexif().get(0x0112, 1)
    inverted = kind == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    if kind == "JPEG":
        image.draft("L", None)  # of a colour JPEG, decode the luma alone
    image.load()
    if deep:
        image.close()
        grey, remarks = _deep(data)
    else:
        grey, remarks = _grey(image, inverted)
        if kind == "TIFF":
            turn = 1  # Pillow has applied it
    return _turned(grey, turn), remarks


def _bytes_a_pixel(mode: str, kind: str, deep: bool) -> int:
    """Estimate what decoding takes at its height, all copies together."""
    if kind == "WebP":
        return 24  # its decoder holds the picture twice, and gives a copy
    if deep:
        return 16
    if kind == "JPEG":
        return 9  # the coefficients of all scans of a progressive one
    return {"1": 3, "L": 3, "P": 3}.get(mode, 6 if mode.startswith("I;16") else 10 if mode in "IF" else 7)


def _grey(image: ImageFile, inverted: bool) -> tuple[Grey, list[str]]:
    """Turn a decoded image of any mode into grey."""
    mode = image.mode
    if mode[0] in "IF":
        pixels, said = _with_its_sign(np.asarray(image), getattr(image, "tag_v2", {}))
        values, remarks = window(pixels)
        # Pillow inverts white-is-zero up to 8 bits only.
        return (255 - values if inverted else values), said + remarks
    clear = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if not clear and mode != "CMYK":
        return np.asarray(image.convert("L")), []
    width, height = image.size
    out = np.empty((height, width), np.uint8)
    opaque = False
    for rows in chunks(height, width):
        strip = image.crop((0, rows.start, width, min(rows.stop, height)))
        if clear:
            both = np.asarray(strip.convert("RGBA").convert("LA"))
            opaque = opaque or bool(both[..., 1].any())
            out[rows] = _on_black(both[..., 0], both[..., 1], 255)
        else:
            out[rows] = np.asarray(strip.convert("RGB").convert("L"))
    if clear and not opaque:
        raise Damaged(TRANSPARENT)
    return out, []


def _with_its_sign(pixels: NDArray[Any], tags: Mapping[int, Any]) -> tuple[NDArray[Any], list[str]]:
    """Read the 16-bit values of a TIFF with a sign or without, where its header has it wrong."""
    if tags.get(258) != (16,) or pixels.size < LEAST_PIXELS:
        return pixels, []
    codes = pixels.astype(np.uint16)
    declared = Layout(0, 16, tags.get(339, (1,)) == (2,))
    signed, said = check_sign(declared, codes, histogram(codes, 1 << 16), 16)
    return (codes.view(np.int16) if signed else codes) if said else pixels, said


def _stored(data: bytes) -> Grey:
    """Decode a plain PNG of 8 bits that is known to be whole; OpenCV leaves Python's lock to other threads."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise Damaged("it is damaged: its rows of pixels cannot be decoded")
    if pixels.ndim == 2:
        return pixels.astype(np.uint8, copy=False)
    return np.array(fromarray(pixels[..., ::-1]).convert("L"))


def _deep(data: bytes) -> tuple[Grey, list[str]]:
    """Read colour of 16 bits a sample, of which Pillow keeps 8; it has found the data whole."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise Damaged("its layout of more than 8 bits a sample is not supported; save it as 16-bit grey")
    grey = np.empty(pixels.shape[:2], pixels.dtype)
    opaque = pixels.shape[2] == 3
    for rows in chunks(*pixels.shape[:2]):
        some = np.rint(pixels[rows, :, :3].astype(np.float64) @ np.array([0.114, 0.587, 0.299]))
        if pixels.shape[2] == 4:
            alpha = pixels[rows, :, 3]
            opaque = opaque or bool(alpha.any())
            some = _on_black(some, alpha, 65535 if pixels.dtype.itemsize == 2 else 255)
        grey[rows] = some
    if not opaque:
        raise Damaged(TRANSPARENT)
    del pixels
    return window(grey)


def _on_black(grey: NDArray[Any], alpha: NDArray[Any], opaque: int) -> NDArray[np.float64]:
    """Lay a picture with transparency on black, which is air."""
    laid: NDArray[np.float64] = np.rint(grey.astype(np.float64) * alpha / opaque)
    return laid


def _turned(grey: Grey, orientation: object) -> Grey:
    """Apply EXIF's orientation: 2 to 8 are the mirrorings and rotations, all else is upright."""
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    return np.require(grey, requirements=["C", "W", "O"])  # Pillow's own memory is read-only


def _said(error: Exception) -> str:
    """Put a decoder's complaint on one line."""
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
