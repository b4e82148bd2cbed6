"""The content of files, known again without reading them while their size and times stay the same."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from .reading import UnreadableImage

__all__ = ["MISSING", "digests_of", "fingerprint_of"]

log = logging.getLogger(__name__)

MISSING = "-"
# A file this young may change again within one tick of its file system's clock: its digest is not remembered.
SETTLED_NS = 2_000_000_000

Stamp = tuple[int, int, int]
Runner = Callable[[Callable[[int], str], Iterable[int]], Iterator[tuple[int, str]]]


def fingerprint_of(data: bytes) -> str:
    """Thirty-two hexadecimal digits for some bytes."""
    return hashlib.sha256(data).hexdigest()[:32]  # SHA-2 runs in hardware


def digests_of(paths: Sequence[str], cache: Path, run: Runner, read: Callable[[str], bytes]) -> list[str]:
    """Digest of every file; only those that are new or touched are read.

    Parameters
    ----------
    paths : sequence of str
    cache : Path
        Folder of the remembered digests, ``files.sqlite``. Losing it costs time only.
    run : callable
        Runs a function of the position over positions, and gives pairs (position, digest) back.
    read : callable
        Gives the bytes of a file.

    Returns
    -------
    list of str
        `MISSING` where the file cannot be read at all.
    """
    names = [os.path.abspath(path) for path in paths]
    stamps = [_stamp(name) for name in names]
    known = _recall(cache, names)
    digests = [MISSING] * len(names)
    unknown: dict[str, list[int]] = {}
    for row, (name, stamp) in enumerate(zip(names, stamps, strict=True)):
        if stamp is not None:
            remembered = known.get(name)
            if remembered is not None and remembered[0] == stamp:
                digests[row] = remembered[1]
            else:
                unknown.setdefault(name, []).append(row)

    def one(row: int) -> str:
        try:
            return fingerprint_of(read(names[row]))
        except UnreadableImage:
            return MISSING

    now = time.time_ns()
    fresh = []
    for row, digest in run(one, [rows[0] for rows in unknown.values()]):
        for same in unknown[names[row]]:
            digests[same] = digest
        stamp = stamps[row]
        if digest != MISSING and stamp is not None and max(stamp[1:]) < now - SETTLED_NS:
            fresh.append((names[row], *stamp, digest))
    if fresh:
        _remember(cache, fresh)
    return digests


def _stamp(name: str) -> Stamp | None:
    try:
        state = os.stat(name)
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _connect(cache: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(cache / "files.sqlite", timeout=60)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS files"
        " (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, digest TEXT) WITHOUT ROWID"
    )
    return connection


def _recall(cache: Path, names: list[str]) -> dict[str, tuple[Stamp, str]]:
    known: dict[str, tuple[Stamp, str]] = {}
    if not (cache / "files.sqlite").exists():
        return known
    try:
        with closing(_connect(cache)) as connection:
            for start in range(0, len(names), 500):
                some = names[start : start + 500]
                marks = ",".join("?" * len(some))
                query = f"SELECT path, size, mtime, ctime, digest FROM files WHERE path IN ({marks})"
                for path, size, mtime, ctime, digest in connection.execute(query, some):
                    known[path] = ((size, mtime, ctime), digest)
    except (sqlite3.Error, UnicodeEncodeError) as error:
        log.warning("the remembered digests in %s cannot be used (%s): files are read again", cache, error)
        return {}
    return known


def _remember(cache: Path, fresh: list[tuple[str, int, int, int, str]]) -> None:
    try:
        with closing(_connect(cache)) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", fresh)
    except sqlite3.DatabaseError as error:
        log.warning("the digests of files cannot be remembered in %s (%s)", cache, error)
        if not isinstance(error, sqlite3.OperationalError):  # not busy or full, but damaged: begin anew
            (cache / "files.sqlite").unlink(missing_ok=True)
    except UnicodeEncodeError as error:
        log.warning("the digests of files cannot be remembered in %s (%s)", cache, error)
