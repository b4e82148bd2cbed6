"""What an image file is, by its content: the one test for tables, reading, prediction and the page.

The rule for listing a folder: a file that is named as an image is taken at its word, unopened, and reading it
says what is wrong with it; any other file is opened and judged by its first bytes. A list of 40,000 PNGs
therefore opens none of them, while a DICOM file without a suffix is found.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from siamura._files import printable

__all__ = [
    "IMAGE_KINDS",
    "IMAGE_SUFFIXES",
    "FoundImages",
    "find_images",
    "image_kind",
    "is_named_as_image",
    "judge",
    "natural_order",
    "not_one_grey_image",
    "summarize_passed_over",
]

#: The formats that siamura reads.
IMAGE_KINDS: Final = ("PNG", "JPEG", "TIFF", "BMP", "WebP", "DICOM")

#: The suffixes that such files usually have, in lower case.
IMAGE_SUFFIXES: Final = frozenset(
    {
        ".bmp",
        ".dcm",
        ".dic",
        ".dicom",
        ".ima",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    }
)

HIDDEN: Final = "it is hidden"
NO_IMAGE: Final = f"it is no {', '.join(IMAGE_KINDS[:-1])} or {IMAGE_KINDS[-1]} file"
HEAD_BYTES: Final = 4096
"""As many bytes of a file are enough to tell its kind."""

_SIGNATURES: Final = (
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("JPEG", b"\xff\xd8\xff"),
    ("TIFF", b"II*\x00"),
    ("TIFF", b"MM\x00*"),
    ("TIFF", b"II+\x00"),
    ("TIFF", b"MM\x00+"),
    ("BMP", b"BM"),
)
_OTHERS: Final = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\x00\x05\x16\x07", "a macOS resource file, not the image it is named after"),
    (b"\x00\x00\x00\x0cjP", "a bare JPEG 2000 file"),
    (b"version https://git-lfs", "a Git LFS pointer: the image itself was not fetched"),
    (b"<", "a text or web page, as a failed download leaves it"),
)
_READS: Final = f"siamura reads {', '.join(IMAGE_KINDS[:-1])} and {IMAGE_KINDS[-1]}"
# Media Storage SOP Class UID (0002,0002) of the file that lists the others on a DICOM medium.
_DICOMDIR: Final = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"
# Value representations of DICOM PS3.5, table 6.2-1; those of `_LONG` have a length of four bytes.
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_PIXEL_GROUP: Final = 0x7FE0


class FoundImages(NamedTuple):
    """What a folder holds.

    Parameters
    ----------
    images : list of Path
        Files that are images, or are named as images, in natural order: image2 before image10.
    passed_over : list of (str, str)
        All other files, and folders that are hidden or cannot be opened: each with the reason.
    """

    images: list[Path]
    passed_over: list[tuple[str, str]]


def image_kind(source: str | os.PathLike[str] | bytes) -> str | None:
    r"""Return what kind of image a file is, by its content alone.

    Parameters
    ----------
    source : path or bytes
        A file, of which the first 4 kB are read; or its bytes.

    Returns
    -------
    {"PNG", "JPEG", "TIFF", "BMP", "WebP", "DICOM"} or None
        None for anything else, and for what cannot be opened. DICOM files are recognised with and without
        their preamble.

    Examples
    --------
    >>> image_kind(b"\x89PNG\r\n\x1a\n" + bytes(100))
    'PNG'
    >>> print(image_kind(b"path,label"))
    None
    """
    return judge(source)[0]


def judge(source: str | os.PathLike[str] | bytes) -> tuple[str | None, str]:
    """Return what kind of image a file is; where it is none, why not.

    Returns
    -------
    (str or None, str)
        The kind as `image_kind` gives it, and the reason where it is None.
    """
    if isinstance(source, bytes):
        return _judge(source[:HEAD_BYTES])
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):  # opening a pipe would wait for ever
            return None, "it is no regular file"
        with open(source, "rb") as file:
            return _judge(file.read(HEAD_BYTES))
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        return None, f"it cannot be opened ({said.lower()})"


def is_named_as_image(name: str | os.PathLike[str]) -> bool:
    """Return whether a file's name ends as those of images do.

    Examples
    --------
    >>> is_named_as_image("films/IM0001.IMA"), is_named_as_image("films/notes.txt")
    (True, False)
    """
    return os.path.splitext(os.fspath(name))[1].lower() in IMAGE_SUFFIXES


def find_images(folder: str | os.PathLike[str]) -> FoundImages:
    """List the images in a folder and all folders below it, and what was passed over.

    A file with one of the usual suffixes counts as an image, so that reading it tells what is wrong with a
    damaged one; any other file is opened and counts if its content is an image's. Hidden files and folders
    (a name that begins with a dot) are never images.

    Parameters
    ----------
    folder : path

    Returns
    -------
    FoundImages
        ``images`` in natural order, and ``passed_over`` with reasons.

    Raises
    ------
    NotADirectoryError
        If it is no folder.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("film10.png", "film2.png", "notes.txt", "._film2.png"):
    ...     _ = (folder / name).write_bytes(b"...")
    >>> images, passed_over = find_images(folder)
    >>> [path.name for path in images]
    ['film2.png', 'film10.png']
    >>> [reason for path, reason in passed_over]
    ['it is hidden', 'it is truncated: only 3 bytes are left']
    """
    top = os.fspath(folder)
    if not os.path.isdir(top):
        raise NotADirectoryError(f"folder={top!r} is no folder; give one that holds images.")
    images: list[Path] = []
    passed_over: list[tuple[str, str]] = []

    def unopened(error: OSError) -> None:
        passed_over.append(
            (str(error.filename), f"it cannot be opened ({(error.strerror or str(error)).lower()})")
        )

    for here, folders, files in os.walk(top, onerror=unopened):
        passed_over += [(os.path.join(here, name), HIDDEN) for name in sorted(folders) if name[0] == "."]
        folders[:] = sorted((name for name in folders if name[0] != "."), key=natural_order)
        for name in files:
            path = os.path.join(here, name)
            if name[0] == ".":
                passed_over.append((path, HIDDEN))
                continue
            if is_named_as_image(name):
                images.append(Path(path))
                continue
            kind, reason = judge(path)
            if kind is None:
                passed_over.append((path, reason))
            else:
                images.append(Path(path))
    images.sort(key=lambda path: natural_order(os.fspath(path)))
    passed_over.sort(key=lambda row: natural_order(row[0]))
    return FoundImages(images, passed_over)


def natural_order(path: str) -> list[tuple[tuple[int, int, str], ...]]:
    """Give a key that sorts as people count, folder by folder: image2 before image10.

    Examples
    --------
    >>> sorted(["b/image10", "b/image2", "a/image11"], key=natural_order)
    ['a/image11', 'b/image2', 'b/image10']
    """
    return [
        tuple(
            (0, int(word), word) if word.isdecimal() else (1, 0, word.casefold())
            for word in re.split(r"(\d+)", name)
            if word
        )
        for name in path.replace(os.sep, "/").split("/")
    ]


def summarize_passed_over(passed_over: Iterable[tuple[str, str]], most: int = 3) -> str:
    """Say in one line what was passed over, and why; an empty text where it is nothing.

    Examples
    --------
    >>> summarize_passed_over([("a/notes.txt", "it is empty"), ("a/._1.png", HIDDEN), ("a/.git", HIDDEN)])
    'passed over 1 file that is no image (notes.txt: it is empty) and 2 hidden ones'
    """
    rows = list(passed_over)
    count = Counter(reason == HIDDEN for _, reason in rows)
    others = [(os.path.basename(path), reason) for path, reason in rows if reason != HIDDEN]
    words = []
    if others:
        named = "; ".join(f"{printable(name)}: {reason}" for name, reason in others[:most])
        rest = f"; and {len(others) - most} more" if len(others) > most else ""
        which = "file that is no image" if len(others) == 1 else "files that are no images"
        words.append(f"{len(others)} {which} ({named}{rest})")
    if count[True]:
        words.append(f"{count[True]} hidden {'one' if count[True] == 1 else 'ones'}")
    return f"passed over {' and '.join(words)}" if words else ""


def _judge(head: bytes) -> tuple[str | None, str]:
    """Return the kind by the first bytes, and the reason where it is none."""
    if not head:
        return None, "it is empty"
    # First DICOM: its free preamble may pretend to be a TIFF.
    if head[128:132] == b"DICM":
        if _DICOMDIR in head:
            return None, "it is a DICOMDIR, which lists the files of a DICOM medium and holds no image"
        return "DICOM", ""
    for kind, signature in _SIGNATURES:
        if head.startswith(signature) and (kind != "BMP" or _is_bmp(head)):
            return kind, ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP", ""
    if _is_bare_dicom(head):
        return "DICOM", ""
    if len(head) < 12:
        return None, f"it is truncated: only {len(head)} bytes are left"
    for signature, what in _OTHERS:
        if head.lstrip()[: len(signature)] == signature:
            return None, f"it is {what}; {_READS}"
    return None, NO_IMAGE


def _is_bmp(head: bytes) -> bool:
    """Return whether this is a BMP and no text that begins with BM: the length of its second header is one of a few."""
    return len(head) < 18 or int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_bare_dicom(head: bytes) -> bool:
    """Return whether this is a DICOM data set that begins at once, without preamble.

    Elements stand in ascending order, each a tag and, explicitly or not, a value representation, and a
    length. Those that fit into the head must all be of that form, and the first of a group that images have.
    """
    position, last, elements = 0, -1, 0
    while position + 8 <= len(head) and elements < 8:
        group, element = (int.from_bytes(head[at : at + 2], "little") for at in (position, position + 2))
        tag = group << 16 | element
        first_fits = group in (0x0002, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028)
        if tag <= last or (elements == 0 and not first_fits) or group > _PIXEL_GROUP:
            return False
        representation = head[position + 4 : position + 6]
        if representation in _SHORT:
            start, length = position + 8, int.from_bytes(head[position + 6 : position + 8], "little")
        elif representation in _LONG:
            start, length = position + 12, int.from_bytes(head[position + 8 : position + 12], "little")
        else:
            start, length = position + 8, int.from_bytes(head[position + 4 : position + 8], "little")
            if elements == 0 and length > len(head):
                return False
        elements, last = elements + 1, tag
        if group == _PIXEL_GROUP or length == 0xFFFFFFFF:  # pixels, or a sequence that ends by a mark
            return True
        if length > 1 << 24 or (length % 2 and group != 0x0002):
            return False
        position = start + length
    return elements > 0


def not_one_grey_image(header: Any) -> str:
    """Say why a DICOM header describes no single grey image; an empty string where nothing in it does.

    Parameters
    ----------
    header : mapping of keyword to value
        pydicom's data set, or what of it was read: PhotometricInterpretation, SamplesPerPixel, NumberOfFrames.

    Examples
    --------
    >>> not_one_grey_image({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3})
    'it is a colour image (RGB, 3 samples a pixel); a radiograph is MONOCHROME1 or 2'
    >>> not_one_grey_image({"PhotometricInterpretation": "MONOCHROME2", "NumberOfFrames": 1})
    ''
    """
    kind, samples = header.get("PhotometricInterpretation"), int(header.get("SamplesPerPixel") or 1)
    if samples != 1 or (kind and not str(kind).startswith("MONOCHROME")):
        return f"it is a colour image ({kind}, {samples} samples a pixel); a radiograph is MONOCHROME1 or 2"
    if kind and kind not in ("MONOCHROME1", "MONOCHROME2"):
        return f"its photometric interpretation {kind!r} is neither MONOCHROME1 nor MONOCHROME2"
    frames = int(header.get("NumberOfFrames") or 1)
    return (
        f"it holds {frames} frames; a radiograph is one: export the right one by itself" if frames > 1 else ""
    )
