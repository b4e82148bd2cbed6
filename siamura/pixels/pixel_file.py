"""One file of many images of a size, which several threads write and read at once."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

__all__ = ["PixelFile"]


class PixelFile:
    """The file of the pixels, written and read at any place by several threads at once."""

    def __init__(self, path: Path) -> None:
        # Windows distinguishes text from bytes, and cannot read or write at an offset: there one thread at a time does.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self._folder = path.parent
        self._turn = threading.Lock()
        self._pread = getattr(os, "pread", self._read_in_turn)
        self._pwrite = getattr(os, "pwrite", self._write_in_turn)

    def __enter__(self) -> PixelFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def reserve(self, size: int) -> None:
        """Take the space on the disk now, or raise the error of a full disk."""
        size = max(1, size)
        allocate = getattr(os, "posix_fallocate", None)
        if allocate is not None:
            allocate(self._descriptor, 0, size)
            return
        missing = size - os.fstat(self._descriptor).st_size
        if missing > shutil.disk_usage(self._folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if missing > 0:
            os.ftruncate(self._descriptor, size)

    def read(self, count: int, offset: int) -> bytes:
        """Read `count` bytes at `offset`."""
        data: bytes = self._pread(self._descriptor, count, offset)
        return data

    def write(self, data: bytes, offset: int) -> None:
        """Write `data` at `offset`, all of it."""
        view = memoryview(data)
        while view:
            count = self._pwrite(self._descriptor, view, offset)
            view, offset = view[count:], offset + count

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(self._descriptor, size)

    def _read_in_turn(self, descriptor: int, count: int, offset: int) -> bytes:
        with self._turn:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, count)

    def _write_in_turn(self, descriptor: int, data: memoryview, offset: int) -> int:
        with self._turn:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)
