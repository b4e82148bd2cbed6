"""Preprocessed images, kept once: built by all cores, memory-mapped, and verified whenever they are opened.

A store is a folder ``<cache>/<key>/`` that holds the pixels and a manifest; its key is made of the content of
every source file, the preprocessing, and the versions that affect a bit. It is built in ``<key>.partial/``
and renamed when complete, under a lock that dies with its process. A checksum of every image is verified
whenever a store is opened, and whenever a build is resumed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from siamura._files import is_disk_full, lock, printable

from .digests import digests_of, fingerprint_of
from .parallel import parallel_map
from .pixel_file import PixelFile
from .preprocessing import Preprocess
from .reading import UnreadableImage, decode_with_remarks, join_remarks, read_bytes

__all__ = ["StoreError", "Stored", "map_store", "open_store", "preprocess_all"]

log = logging.getLogger(__name__)

# Raise with the layout of a store, and whenever reading begins to give other pixels for some file.
FORMAT = 2
PIXELS, JOURNAL, MANIFEST = "images.u8", "journal.bin", "manifest.json"
ENTRY = np.dtype([("row", "<u4"), ("crc", "<u4")])


class StoreError(OSError):
    """The store could not be written, or a source file changed under it; the message says what to do.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     try:
    ...         open_store([], Preprocess(size=32), file.name)
    ...     except StoreError as error:
    ...         print(str(error).partition("; ")[2])
    choose another folder, or None to keep the images in memory
    """


@dataclass(frozen=True)
class Stored:
    """Preprocessed images and what could not be read.

    Parameters
    ----------
    images : uint8 (N, S, S)
        Memory-mapped, read-only, where they come from a store.
    rows : int64 (N,)
        For each image its position among the paths that were asked for.
    unreadable : tuple of (int, str)
        Positions without an image, and why.
    file : Path or None
        What is mapped; None where the images are in memory.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    unreadable: tuple[tuple[int, str], ...]
    file: Path | None = None


def preprocess_all(paths: Sequence[str], pre: Preprocess, *, progress: bool = True) -> Stored:
    """Read and preprocess files with all cores, into memory.

    Parameters
    ----------
    paths : sequence of str
    pre : Preprocess
    progress : bool
        Show a bar.
    """
    images = np.empty((len(paths), pre.size, pre.size), np.uint8)

    remarks: dict[int, str] = {}

    def one(row: int) -> str | None:
        try:
            image, said = decode_with_remarks(read_bytes(paths[row]), paths[row])
        except UnreadableImage as error:
            return error.reason
        if said:
            remarks[row] = join_remarks(paths[row], said)
        images[row] = pre(image)
        return None

    bad = {
        row: reason for row, reason in parallel_map(one, range(len(paths)), progress) if reason is not None
    }
    _say_remarks(remarks, len(paths))
    rows = np.array([row for row in range(len(paths)) if row not in bad], np.int64)
    return Stored(images[rows] if bad else images, rows, tuple(sorted(bad.items())))


def open_store(
    paths: Sequence[str], pre: Preprocess, cache: str | os.PathLike[str], *, progress: bool = True
) -> Stored:
    """Open the store of these files and this preprocessing; build it first, or what is missing of it.

    Parameters
    ----------
    paths : sequence of str
    pre : Preprocess
    cache : path
        The folder of all stores; made where it is missing. Safe to share between processes, and to delete.
    progress : bool
        Show a bar while building.

    Raises
    ------
    StoreError
        On a full disk, where the cache can be no folder, and where a file changes while it is read.
    """
    cache = Path(cache).absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (
            "it, or a folder above it, is a file"
            if isinstance(error, (FileExistsError, NotADirectoryError))
            else (error.strerror)
        )
        raise StoreError(
            f"cache={str(cache)!r} cannot be made a folder ({why}); choose another folder, or None to keep the images "
            "in memory"
        ) from error
    once = _ReadOnce()
    digests = digests_of(
        paths, cache, lambda one, rows: parallel_map(one, rows, progress, "hashing", at_once=32), once.read
    )
    folder = cache / _key(digests, pre)
    build = _Build(folder, list(paths), digests, once.taken, pre)
    stored = build.opened()
    if stored is None:
        waiting = f"another process is building {folder}: waiting for it"
        with (
            _explain_full_disk(folder, len(paths) * pre.size**2),
            lock(folder.with_name(folder.name + ".lock"), waiting=waiting),
        ):
            stored = build.opened()  # another process may have finished it meanwhile
            if stored is None:
                build.run(progress)
                _say_remarks(build.remarks, len(paths))
                stored = build.opened(written=True)
    if stored is None:
        raise StoreError(
            f"{folder} was written, and does not read back the same: check the disk, or choose another cache"
        )
    return stored


class _ReadOnce:
    """Keep what was read for its digest until it is preprocessed: a small set of files is read once."""

    LIMIT = 1 << 28

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._left = self.LIMIT

    def read(self, path: str) -> bytes:
        """Read a file, and keep its bytes up to the limit."""
        data = read_bytes(path)
        if len(data) <= self._left:
            self._left -= len(data)
            self._kept[path] = data
        return data

    def taken(self, path: str) -> bytes | None:
        """Return kept bytes, and keep them no longer."""
        return self._kept.pop(os.path.abspath(path), None)


@dataclass(frozen=True)
class _Build:
    folder: Path
    paths: list[str]
    digests: list[str]
    taken: Callable[[str], bytes | None]
    pre: Preprocess
    remarks: dict[int, str] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        return self.pre.size**2

    def opened(self, *, written: bool = False) -> Stored | None:
        """Return the finished store where there is one, whole and still right; None otherwise.

        What this process has `written` a moment ago would be read from memory, not from the disk: its checksums
        are left for the next opening.
        """
        file = self.folder / PIXELS
        try:
            manifest = _manifest(self.folder)
            if manifest is None:
                return None
            crcs = manifest["crcs"]
            bad = [(int(row), str(reason)) for row, reason in manifest["unreadable"]]
            rows = np.setdiff1d(np.arange(len(self.paths)), [row for row, _ in bad])
            if len(crcs) != len(rows) or file.stat().st_size != len(rows) * self.row_bytes:
                raise ValueError("its size does not fit its manifest")
            size = self.pre.size
            images = map_store(file, len(rows), size)
            sound = parallel_map(
                lambda row: zlib.crc32(images[row]) == crcs[row],
                range(0 if written else len(rows)),
                False,
                at_once=256,
            )
            wrong = [row for row, good in sound if not good]
            if wrong:
                raise ValueError(f"{len(wrong)} of its images fail their checksum")
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s) and will be built again", self.folder, error)
            return None
        # What could not be read may be readable by now: a decoder was installed.
        if any(isinstance(self._image(row), np.ndarray) for row, _ in bad):
            log.info("%s: files that could not be read can be now", self.folder)
            return None
        return Stored(images, rows.astype(np.int64), tuple(bad), file)

    def run(self, progress: bool) -> None:
        """Build in another folder, resuming what a killed process left, and rename it when complete."""
        partial = self.folder.with_name(self.folder.name + ".partial")
        partial.mkdir(exist_ok=True)
        count = len(self.paths)
        with PixelFile(partial / PIXELS) as pixels, open(partial / JOURNAL, "ab") as journal:
            pixels.reserve(count * self.row_bytes)
            done = self._resumed(partial, pixels)
            if done:
                log.info("resuming %s: %d of %d images are there", self.folder, len(done), count)
            bad: dict[int, str] = {}
            written = time.monotonic()
            todo = [row for row in range(count) if row not in done]
            one = lambda row: self._written(row, pixels)  # noqa: E731
            for row, outcome in parallel_map(one, todo, progress, already=len(done)):
                if isinstance(outcome, str):
                    bad[row] = outcome
                    continue
                done[row] = outcome
                journal.write(np.array([(row, outcome)], ENTRY).tobytes())
                if time.monotonic() - written > 0.2:
                    journal.flush()
                    written = time.monotonic()
            journal.flush()
            good = sorted(done)
            # Close the gaps. Should this be cut off, the moved rows fail their checksums and are redone.
            for place, row in enumerate(good):
                if place != row:
                    moved = pixels.read(self.row_bytes, row * self.row_bytes)
                    pixels.write(moved, place * self.row_bytes)
            pixels.truncate(len(good) * self.row_bytes)
        _write_manifest(
            partial,
            {
                "format": FORMAT,
                "preprocess": self.pre.to_dict(),
                "opencv": cv2.__version__,
                "shape": [len(good), self.pre.size, self.pre.size],
                "unreadable": sorted(bad.items()),
                "crcs": [done[row] for row in good],
            },
        )
        (partial / JOURNAL).unlink()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.rename(partial, self.folder)

    def _resumed(self, partial: Path, pixels: PixelFile) -> dict[int, int]:
        """Rows a killed build finished, each checked against its checksum."""
        raw = (partial / JOURNAL).read_bytes()
        entries = np.frombuffer(raw[: len(raw) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        claimed = {int(row): int(crc) for row, crc in entries.tolist() if row < len(self.paths)}
        if len(raw) % ENTRY.itemsize:  # torn by the kill: what is appended must begin at an entry's edge
            os.truncate(partial / JOURNAL, len(entries) * ENTRY.itemsize)

        def sound(row: int) -> bool:
            return zlib.crc32(pixels.read(self.row_bytes, row * self.row_bytes)) == claimed[row]

        return {row: claimed[row] for row, good in parallel_map(sound, claimed, False, at_once=256) if good}

    def _image(self, row: int) -> NDArray[np.uint8] | str:
        path = self.paths[row]
        try:
            data = self.taken(path)
            if data is None:
                data = read_bytes(path)
                if fingerprint_of(data) != self.digests[row]:
                    raise StoreError(
                        f"{printable(path)} changed while the store was built: run again once it stays as it is"
                    )
            image, said = decode_with_remarks(data, path)
            if said:
                self.remarks[row] = join_remarks(path, said)
            return self.pre(image)
        except UnreadableImage as error:
            return error.reason

    def _written(self, row: int, pixels: PixelFile) -> int | str:
        image = self._image(row)
        if isinstance(image, str):
            return image
        data = image.tobytes()
        pixels.write(data, row * self.row_bytes)
        return zlib.crc32(data)


def map_store(file: Path, count: int, size: int) -> NDArray[np.uint8]:
    """Map the pixels of a store, read-only."""
    if count == 0:  # an empty file cannot be mapped
        return np.empty((0, size, size), np.uint8)
    return np.memmap(file, np.uint8, "r", shape=(count, size, size))


def _key(digests: Iterable[str], pre: Preprocess) -> str:
    # OpenCV's resize may change a bit between releases; a store of another release is another store.
    text = "\n".join([f"{FORMAT}", pre.fingerprint(), cv2.__version__, *digests])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _say_remarks(remarks: dict[int, str], count: int) -> None:
    """Say once for many files that their headers contradict their pixels and were not used."""
    if remarks:
        first = remarks[min(remarks)]
        rest = f"; {len(remarks) - 1} more at the level of debug messages" if len(remarks) > 1 else ""
        log.warning(
            "%d of %d files contradict their own pixels: %s%s", len(remarks), count, first.rstrip("."), rest
        )
        for row in sorted(remarks):
            log.debug("%s", remarks[row])


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        text = (folder / MANIFEST).read_text()
    except (FileNotFoundError, NotADirectoryError):
        if folder.exists():
            raise ValueError("it has no manifest") from None
        return None
    digest, _, body = text.partition("\n")
    if fingerprint_of(body.encode()) != digest:
        raise ValueError("its manifest fails its checksum")
    manifest: dict[str, Any] = json.loads(body)
    return manifest


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    body = json.dumps(manifest)
    # Nothing is flushed to the disk by force: what a power cut takes away fails its checksum, and is made again.
    (folder / MANIFEST).write_text(f"{fingerprint_of(body.encode())}\n{body}")


@contextlib.contextmanager
def _explain_full_disk(folder: Path, size: int) -> Iterator[None]:
    """Say in plain words that the disk is full; what is half written stays apart, and is resumed."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(folder.parent).free
        raise StoreError(
            error.errno,
            f"no room for the preprocessed images ({error.strerror}): {size / 1e6:,.0f} MB are needed and"
            f" {free / 1e6:,.0f} MB are free; make room, or choose another cache (None keeps them in memory)",
            str(folder.parent),
        ) from error
