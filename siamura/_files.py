"""Files that are whole or not there, and a lock between processes, on Linux, macOS and Windows."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "atomic_path",
    "atomic_write",
    "cpu_count",
    "csv_text",
    "digest_of",
    "is_disk_full",
    "lock",
    "neutralize",
    "printable",
    "read_parquet",
    "sync",
    "write_csv",
    "write_parquet",
]

_log = logging.getLogger("siamura")

#: What a formula of a spreadsheet begins with; the last four are the full-width forms of the first.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BREAKS = ("\t", "\r", "\n")
_UNSEEN = " \t\r\n\v\f\0\xa0\u200b\u200c\u200d\u2060\ufeff"


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


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say in one sentence that a file could not be written, and what to do.

    Raises
    ------
    OSError
        Of the same ``errno``, in place of an OSError inside, and of what other libraries raise on a full disk.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        number = getattr(cause, "errno", None)
        if number is None and (found := re.search(r"os error (\d+)", str(error))):  # of a library in Rust
            number = int(found[1])
        if number is None:
            raise
        told = OSError(number, os.strerror(number))
        remedy = (
            "free some space, or write to another disk" if is_disk_full(told) else "choose another folder"
        )
        raise OSError(number, f"{path} could not be written ({os.strerror(number)}); {remedy}.") from error


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that no more can be written: a full disk, a quota, a limit of size."""
    full = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
    return isinstance(error, OSError) and error.errno in full


def digest_of(path: str | os.PathLike[str]) -> str:
    """Digest of a file's bytes (SHA-256, 32 hexadecimal digits); empty where no such file can be read."""
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    return ""


def cpu_count() -> int:
    """Count the cores that this process may use; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def printable(path: object) -> str:
    r"""Write a path, or other text of a file, so that it cannot steer a terminal or hide in a message.

    Control characters, line breaks, marks that turn the direction of writing, and bytes that are no text
    become escapes; letters of every script, spaces and backslashes stay.

    Examples
    --------
    >>> print(printable("films/hand\x1b[2J\n.png"))
    films/hand\x1b[2J\n.png
    """
    text = os.fsdecode(path) if isinstance(path, bytes | os.PathLike) else str(path)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        else c
        for c in text
    )


def neutralize(value: Any) -> Any:
    """Keep a cell of a CSV from being run as a formula by a spreadsheet; all but text stays as it is.

    Text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break gets an apostrophe before
    it, unless it is a number.

    References
    ----------
    OWASP, CSV Injection.

    Examples
    --------
    >>> neutralize("=1+1"), neutralize("-12.5"), neutralize("hand.png"), neutralize(-3)
    ("'=1+1", '-12.5', 'hand.png', -3)
    """
    text = os.fsdecode(value) if isinstance(value, os.PathLike) else value
    # What a spreadsheet does not show may stand before the sign.
    if not isinstance(text, str) or (
        not text.lstrip(_UNSEEN).startswith(_FORMULA) and text[:1] not in _BREAKS
    ):
        return value
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return value


def csv_text(table: pd.DataFrame) -> str:
    """Write a table as a CSV for people: with a header, without the index, every cell neutralized.

    Examples
    --------
    >>> import pandas as pd
    >>> print(csv_text(pd.DataFrame({"path": ["=a.png"], "score": [0.5]})), end="")
    path,score
    '=a.png,0.5
    """
    import pandas as pd  # here, as most users of this module write no tables

    safe = table.copy(deep=False)
    for i in range(safe.shape[1]):
        column = safe.iloc[:, i]
        if column.dtype.kind not in "biufcMm":
            # Kept as objects: pandas' text cannot hold the bytes of a file name that are no text.
            cells: Any = pd.Series([neutralize(v) for v in column], index=safe.index, dtype=object)
            safe.isetitem(i, cells)
    safe.columns = pd.Index([neutralize(name) for name in safe.columns], dtype=object)
    return str(safe.to_csv(index=False, lineterminator="\n"))


def write_csv(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table as a CSV for people (see `csv_text`), whole or not at all; bytes that are no text stay.

    Parameters
    ----------
    table : DataFrame
        Its index is left out.
    path : path
        The file to be made or replaced.
    """
    atomic_write(path, csv_text(table).encode("utf-8", "surrogateescape"))


def write_parquet(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table at once, with its ``attrs`` and without its index; needs the extra ``tables``."""
    with atomic_path(path) as beside, _pyarrow():
        table.to_parquet(beside, engine="pyarrow", index=False)


def read_parquet(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table; `ValueError` where the file is damaged. Needs the extra ``tables``."""
    import pandas as pd  # here, as most users of this module read no tables

    try:
        with _pyarrow():
            return pd.read_parquet(path, engine="pyarrow")
    except (ImportError, OSError):
        raise
    except Exception as error:  # pyarrow raises errors of its own on damaged files
        said = " ".join(str(error).split("\n", 1)[0].split())
        raise ValueError(f"{printable(path)} is a damaged Parquet file ({said}).") from error


@contextlib.contextmanager
def _pyarrow() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ModuleNotFoundError('Parquet needs pyarrow: pip install "siamura[tables]"') from error
