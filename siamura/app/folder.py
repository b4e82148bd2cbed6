"""The page's private folder: for this user alone, swept on end, and by the next page where a process was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import filelock

__all__ = ["PrivateFolder", "sweep"]

PREFIX = "siamura-page-"
_LOCK = "owner.lock"


class PrivateFolder:
    """A new temporary folder of mode 0700 with a lock that lasts as long as this process.

    Attributes
    ----------
    path : Path
    """

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))  # mkdtemp gives mode 0700
            # thread_local: another thread may be the one that ends it
            self._lock = filelock.FileLock(self.path / _LOCK, timeout=0, thread_local=False)
            try:
                self._lock.acquire()
            except (filelock.Timeout, OSError):  # a sweep found it within this instant; take another
                shutil.rmtree(self.path, ignore_errors=True)
                continue
            return

    def remove(self) -> None:
        """Delete it with all that it holds; twice does no harm."""
        with contextlib.suppress(OSError):
            self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def sweep() -> int:
    """Delete the folders of pages whose processes are dead, and count them; living ones hold their lock."""
    swept = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if path.is_symlink() or not path.is_dir() or not (path / _LOCK).is_file():
                continue
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                continue
            with filelock.FileLock(path / _LOCK, timeout=0):
                pass
        except (filelock.Timeout, OSError):
            continue
        shutil.rmtree(path, ignore_errors=True)
        swept += 1
    return swept
