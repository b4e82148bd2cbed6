"""Preprocessed images, kept once: built by all cores, memory-mapped, and never half trusted.

A store is a folder ``<cache>/<key>/`` that holds the pixels and a manifest; its key is made of the content of
every source file, the preprocessing, and the versions that affect a bit. It is built in ``<key>.partial/``
and renamed when complete, under a lock that dies with its process. A checksum of every image is verified
whenever a store is opened, and whenever a build is resumed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .digests import digests_of, fingerprint_of
from .preprocessing import Preprocess
from .reading import UnreadableImage, decode_image, read_bytes
from .spreading import spread

__all__ = ["StoreError", "Stored", "kept", "prepared"]

log = logging.getLogger(__name__)

FORMAT = 1
PIXELS, JOURNAL, MANIFEST = "images.u8", "journal.bin", "manifest.json"
ENTRY = np.dtype([("row", "<u4"), ("crc", "<u4")])


class StoreError(OSError):
    """The store could not be written, or a source file changed under it; the message says what to do.

    Examples
    --------
    >>> from siamura import RadiographDataset, read_mura
    >>> table, pre = read_mura("phantoms").head(4), Preprocess(size=32)
    >>> try:
    ...     data = RadiographDataset(table, pre, cache="runs/images", progress=False)
    ... except StoreError as error:
    ...     print(error)  # no room: what is needed, and what is free; in memory, then
    ...     data = RadiographDataset(table, pre, cache=None, progress=False)
    >>> len(data)
    4
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


def prepared(paths: Sequence[str], pre: Preprocess, *, progress: bool = True) -> Stored:
    """Read and preprocess files with all cores, into memory.

    Parameters
    ----------
    paths : sequence of str
    pre : Preprocess
    progress : bool
        Show a bar.
    """
    images = np.empty((len(paths), pre.size, pre.size), np.uint8)

    def one(row: int) -> str | None:
        try:
            images[row] = pre(decode_image(read_bytes(paths[row]), paths[row]))
        except UnreadableImage as error:
            return error.reason
        return None

    bad = {row: reason for row, reason in spread(one, range(len(paths)), progress) if reason is not None}
    rows = np.array([row for row in range(len(paths)) if row not in bad], np.int64)
    return Stored(images[rows] if bad else images, rows, tuple(sorted(bad.items())))


def kept(
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
        On a full disk, and where a file changes while it is read.
    """
    cache = Path(cache).absolute()
    cache.mkdir(parents=True, exist_ok=True)
    once = _ReadOnce()
    digests = digests_of(
        paths, cache, lambda one, rows: spread(one, rows, progress, "hashing", at_once=32), once.read
    )
    folder = cache / _key(digests, pre)
    build = _Build(folder, list(paths), digests, once.taken, pre)
    stored = build.opened()
    if stored is None:
        lock = folder.with_name(folder.name + ".lock")
        with _room_for(folder, len(paths) * pre.size**2), _locked(lock):
            stored = build.opened()  # another process may have finished it meanwhile
            if stored is None:
                build.run(progress)
                stored = build.opened(written=True)
    if stored is None:
        raise StoreError(
            f"{folder} was written, and does not read back the same: check the disk, or choose another cache"
        )
    return stored


class _ReadOnce:
    """Keep what was read for its digest until it is preprocessed: a small set of files is read once."""

    ROOM = 1 << 28

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._room = self.ROOM

    def read(self, path: str) -> bytes:
        """Read a file, and keep its bytes while there is room."""
        data = read_bytes(path)
        if len(data) <= self._room:
            self._room -= len(data)
            self._kept[path] = data
        return data

    def taken(self, path: str) -> bytes | None:
        """Give kept bytes away."""
        return self._kept.pop(os.path.abspath(path), None)


@dataclass(frozen=True)
class _Build:
    folder: Path
    paths: list[str]
    digests: list[str]
    taken: Callable[[str], bytes | None]
    pre: Preprocess

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
            images = mapped(file, len(rows), size)
            sound = spread(
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
        """Build beside, resuming what a killed process left, and put it in place at one stroke."""
        partial = self.folder.with_name(self.folder.name + ".partial")
        partial.mkdir(exist_ok=True)
        count = len(self.paths)
        with open(partial / PIXELS, "ab"), open(partial / JOURNAL, "ab") as journal:
            descriptor = os.open(partial / PIXELS, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, max(1, count * self.row_bytes))
                done = self._resumed(partial, descriptor)
                if done:
                    log.info("resuming %s: %d of %d images are there", self.folder, len(done), count)
                bad: dict[int, str] = {}
                written = time.monotonic()
                todo = [row for row in range(count) if row not in done]
                one = lambda row: self._written(row, descriptor)  # noqa: E731
                for row, outcome in spread(one, todo, progress, already=len(done)):
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
                        pixels = os.pread(descriptor, self.row_bytes, row * self.row_bytes)
                        _write(descriptor, pixels, place * self.row_bytes)
                os.ftruncate(descriptor, len(good) * self.row_bytes)
            finally:
                os.close(descriptor)
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

    def _resumed(self, partial: Path, descriptor: int) -> dict[int, int]:
        """Rows a killed build finished, each checked against its checksum."""
        raw = (partial / JOURNAL).read_bytes()
        entries = np.frombuffer(raw[: len(raw) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        claimed = {int(row): int(crc) for row, crc in entries.tolist() if row < len(self.paths)}
        if len(raw) % ENTRY.itemsize:  # torn by the kill: what is appended must begin at an entry's edge
            os.truncate(partial / JOURNAL, len(entries) * ENTRY.itemsize)

        def sound(row: int) -> bool:
            return zlib.crc32(os.pread(descriptor, self.row_bytes, row * self.row_bytes)) == claimed[row]

        return {row: claimed[row] for row, good in spread(sound, claimed, False, at_once=256) if good}

    def _image(self, row: int) -> NDArray[np.uint8] | str:
        path = self.paths[row]
        try:
            data = self.taken(path)
            if data is None:
                data = read_bytes(path)
                if fingerprint_of(data) != self.digests[row]:
                    raise StoreError(
                        f"{path} changed while the store was built: run again once it stays as it is"
                    )
            return self.pre(decode_image(data, path))
        except UnreadableImage as error:
            return error.reason

    def _written(self, row: int, descriptor: int) -> int | str:
        image = self._image(row)
        if isinstance(image, str):
            return image
        pixels = image.tobytes()
        _write(descriptor, pixels, row * self.row_bytes)
        return zlib.crc32(pixels)


def mapped(file: Path, count: int, size: int) -> NDArray[np.uint8]:
    """Map the pixels of a store, read-only."""
    if count == 0:  # an empty file cannot be mapped
        return np.empty((0, size, size), np.uint8)
    return np.memmap(file, np.uint8, "r", shape=(count, size, size))


def _key(digests: Iterable[str], pre: Preprocess) -> str:
    # OpenCV's resize may change a bit between releases; a store of another release is another store.
    text = "\n".join([f"{FORMAT}", pre.fingerprint(), cv2.__version__, *digests])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


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
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system lets go of when the process ends, however it ends."""
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is building %s: waiting for it", path.with_suffix(""))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _room_for(folder: Path, size: int) -> Iterator[None]:
    """Say in plain words that the disk is full; what is half written stays apart, and is resumed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder.parent).free
        raise StoreError(
            error.errno,
            f"no room for the preprocessed images ({error.strerror}): {size / 1e6:,.0f} MB are needed and"
            f" {free / 1e6:,.0f} MB are free; make room, or choose another cache (None keeps them in memory)",
            str(folder.parent),
        ) from error
