"""An image file as 8-bit grey."""

from __future__ import annotations

import io
import os
import stat
from typing import Final

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

MAX_PIXELS: Final = 80_000_000
"""Images beyond are refused: the largest radiographs, a whole spine stitched together, stay below."""

MAX_BYTES: Final = 1 << 30
"""Files beyond are refused before they are read."""


class UnreadableImage(ValueError):
    """A file that cannot be read as an image.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it, as the end of a sentence that begins with the path.

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
        super().__init__(f"{self.path} cannot be read: {self.reason}.")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        """Travel between processes: BaseException's own way would call with one argument."""
        return UnreadableImage, (self.path, self.reason)


def read_image(path: str | os.PathLike[str]) -> Grey:
    """Read a radiograph as 8-bit grey.

    Parameters
    ----------
    path : path
        PNG, JPEG, TIFF, BMP, WebP or DICOM, told apart by content, not by name.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        As it is to be looked at: EXIF rotation applied, DICOM windowed and bone bright.

    Raises
    ------
    UnreadableImage
        With the path and the reason: missing, empty, truncated, damaged, of another format, with more than
        one frame, or larger than 80 million pixels.
    """
    return decode_image(read_bytes(path), path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file that may hold an image; raise UnreadableImage where that makes no sense."""
    try:
        state = os.stat(path)
        if stat.S_ISDIR(state.st_mode):
            raise UnreadableImage(path, "it is a folder")
        if not stat.S_ISREG(state.st_mode):
            raise UnreadableImage(path, "it is no regular file")
        if state.st_size > MAX_BYTES:
            raise UnreadableImage(path, f"its {state.st_size:,} bytes are more than {MAX_BYTES:,}")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UnreadableImage(path, "there is no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(path, getattr(error, "strerror", None) or str(error)) from error


def decode_image(data: bytes, path: str | os.PathLike[str] = "the image") -> Grey:
    """Decode the bytes of an image file; like :func:`read_image`, where the bytes are already there."""
    if not data:
        raise UnreadableImage(path, "it is empty")
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF", "BMP", "WEBP"))
        image.load()
        return np.asarray(image.convert("L"))
    except Exception as error:
        raise UnreadableImage(path, str(error)) from error
