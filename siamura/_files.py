"""Files that are whole or not there, and a lock between processes, on Linux, macOS and Windows."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic_path", "atomic_write", "cpu_count", "is_disk_full", "lock", "sync"]

_log = logging.getLogger("siamura")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Give a file beside `path` to write to; at the end it takes the name, after an error it is removed.

    Parameters
    ----------
    path : path
        The file to be made or replaced. A reader sees the old content or the new one, never a part.
    durable : bool
        Whether the content is on the disk, not only with the system, before the name is given.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "scores.csv") as beside:
    ...         _ = beside.write_text("kappa")
    ...     [file.name for file in Path(folder).iterdir()]
    ['scores.csv']
    """
    path = Path(path)
    # The ending stays the last one, as some writers choose the form of a file by it.
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield beside
        if durable:
            sync(beside)
        os.replace(beside, path)
        if durable and os.name == "posix":
            sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            if beside.is_dir():
                shutil.rmtree(beside, ignore_errors=True)
            else:
                beside.unlink(missing_ok=True)


def atomic_write(path: str | os.PathLike[str], content: str | bytes, *, durable: bool = False) -> None:
    """Write a whole file at once; text is UTF-8.

    Parameters
    ----------
    path : path
        The file to be made or replaced.
    content : str or bytes
        All of it.
    durable : bool
        See `atomic_path`.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path, durable=durable) as beside:
        beside.write_bytes(data)


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], *, waiting: str | None = None) -> Iterator[None]:
    """Hold a lock between processes; the system gives it back when the process ends, however it ends.

    Parameters
    ----------
    path : path
        The file of the lock; it may stay behind, empty.
    waiting : str, optional
        What to log where another process holds it.
    """
    import filelock

    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        if waiting is not None:
            _log.info(waiting)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def sync(path: str | os.PathLike[str]) -> None:
    """Have the system put a file (on POSIX, a folder too) on the disk now."""
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error means that no more can be written: a full disk, a quota, a limit of size."""
    full = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
    return isinstance(error, OSError) and error.errno in full


def cpu_count() -> int:
    """Count the cores that this process may use; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
