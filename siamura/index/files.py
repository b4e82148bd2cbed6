"""An index on disk: immutable segments and one manifest, each written beside and then renamed."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import mmap
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["DamagedIndex", "Manifest", "Segment", "digest64", "locked", "write_segment"]

FORMAT, VERSION = "siamura.CaseIndex", 1
FILES = ("vectors.npy", "norms.npy", "keys.npy", "cases.csv")
#: Columns of keys.npy: digests of part and patient, the label, and where the case's line in cases.csv begins.
PART, PATIENT, LABEL, OFFSET = range(4)


class DamagedIndex(ValueError):
    """A file of the index is missing, cut short, changed, or something else's.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it.

    Examples
    --------
    >>> from siamura import CaseIndex
    >>> from siamura.experiments import load_run
    >>> embeddings, table = load_run("runs/first").embeddings()
    >>> CaseIndex.create("runs/damaged_cases", dim=embeddings.shape[1]).add(embeddings, table)
    96
    >>> _ = Path("runs/damaged_cases/manifest.json").write_text("cut sh")
    >>> try:
    ...     index = CaseIndex.open("runs/damaged_cases")
    ... except DamagedIndex as error:
    ...     index = CaseIndex.recover("runs/damaged_cases")
    ...     print(error.path.name, len(index))
    manifest.json 96
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(
            f"{path}: {reason}. Nothing was changed. Put back the file from a copy, or keep what is whole by "
            "CaseIndex.recover(folder)."
        )


@dataclass
class Manifest:
    """What belongs to the index: the one file that makes an addition count.

    Parameters
    ----------
    dim : int
    fingerprint : dict or None
        Of the network and preprocessing that made the embeddings.
    exact_up_to : int
        Cases up to which the search is exact.
    columns : dict of str to str
        The table's columns and their kinds; empty before the first addition.
    segments : list of dict
        Name, first serial, rows, and size and CRC-32 of each file.
    nearest : dict or None
        The inverted file over the first rows: name, rows, size, nprobe, recall.
    serial, number : int
        Next case's serial, and next file's number; neither is ever used again.
    """

    dim: int
    fingerprint: dict[str, str] | None
    exact_up_to: int
    columns: dict[str, str] = field(default_factory=dict)
    segments: list[dict[str, Any]] = field(default_factory=list)
    nearest: dict[str, Any] | None = None
    serial: int = 0
    number: int = 1

    @property
    def rows(self) -> int:
        """Cases held."""
        return sum(segment["rows"] for segment in self.segments)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it, and refuse what is not one."""
        path = folder / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no case index (no manifest.json); make one by CaseIndex.create."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedIndex(path, f"cannot be read as JSON ({error})") from error
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise DamagedIndex(path, "belongs to something else than a case index")
        if (version := content.pop("version", None)) != VERSION:
            raise ValueError(
                f"{path}: version {version!r} of the format; this siamura reads version {VERSION}."
            )
        try:
            made = cls(**content)
            if made.dim < 1 or any(s["rows"] < 1 or set(s["files"]) != set(FILES) for s in made.segments):
                raise ValueError("impossible values")
        except (TypeError, KeyError, ValueError) as error:
            raise DamagedIndex(path, f"lacks what a case index needs ({error})") from error
        return made

    def write(self, folder: Path) -> None:
        """Write it beside and rename: a reader, or a kill, meets the old one or the new one."""
        content = {"format": FORMAT, "version": VERSION, **self.__dict__}
        replace_file(folder / "manifest.json", json.dumps(content, indent=1).encode())


@dataclass
class Segment:
    """Some cases, memory-mapped: vectors float32 (n, dim), keys int64 (n, 4), and their lines of CSV."""

    folder: Path
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    keys: NDArray[np.int64]
    text: mmap.mmap

    @classmethod
    def open(cls, folder: Path, facts: dict[str, Any], dim: int) -> Self:
        """Map the files, after comparing sizes and shapes with the manifest's."""
        n = facts["rows"]
        for name in FILES:
            path = folder / name
            if not path.is_file():
                raise DamagedIndex(path, "is missing")
            if (size := path.stat().st_size) != facts["files"][name]["bytes"]:
                raise DamagedIndex(path, f"has {size} bytes instead of {facts['files'][name]['bytes']}")
        arrays = []
        for name, shape, kind in (
            ("vectors.npy", (n, dim), np.float32),
            ("norms.npy", (n,), np.float32),
            ("keys.npy", (n, 4), np.int64),
        ):
            try:
                array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise DamagedIndex(folder / name, f"cannot be read ({error})") from error
            if array.shape != shape or array.dtype != kind:
                raise DamagedIndex(
                    folder / name, f"holds {array.dtype} {array.shape} instead of {kind.__name__} {shape}"
                )
            arrays.append(array)
        with (folder / "cases.csv").open("rb") as file:
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        vectors, norms, keys = arrays
        return cls(folder, vectors, norms, keys, text)

    def __len__(self) -> int:
        return len(self.vectors)

    def line(self, row: int) -> bytes:
        """One case's line of the table."""
        start = int(self.keys[row, OFFSET])
        stop = int(self.keys[row + 1, OFFSET]) if row + 1 < len(self) else len(self.text)
        if not 0 <= start < stop <= len(self.text):
            raise DamagedIndex(self.folder / "keys.npy", f"points outside cases.csv for row {row}")
        return self.text[start:stop]

    def lines(self) -> list[bytes]:
        """All lines of the table, its header left out."""
        edges = [*self.keys[:, OFFSET].tolist(), len(self.text)]
        return [self.text[a:b] for a, b in itertools.pairwise(edges)]


def write_segment(
    folder: Path,
    name: str,
    first: int,
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], list[bytes]]],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write vectors, keys (n, 3) and lines as one segment; it counts only once the manifest names it."""
    beside = folder / f"{name}.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    head = csv_lines([list(about["columns"])])[0]
    lines = [line for part in parts for line in part[2]]
    rows = len(lines)
    keys = np.empty((rows, 4), np.int64)
    keys[:, :OFFSET] = np.concatenate([part[1][:, :OFFSET] for part in parts])
    keys[:, OFFSET] = np.cumsum([len(head), *map(len, lines[:-1])])
    norms = [np.einsum("ij,ij->i", part[0], part[0], dtype=np.float64) for part in parts]
    dim = parts[0][0].shape[1]
    vectors = np.lib.format.open_memmap(
        beside / "vectors.npy", mode="w+", dtype=np.float32, shape=(rows, dim)
    )
    at = 0
    for part in parts:
        vectors[at : at + len(part[0])] = part[0]
        at += len(part[0])
    vectors.flush()
    del vectors
    np.save(beside / "norms.npy", np.concatenate(norms).astype(np.float32))
    np.save(beside / "keys.npy", keys)
    (beside / "cases.csv").write_bytes(head + b"".join(lines))
    facts: dict[str, Any] = {"name": name, "first": first, "rows": rows, "files": {}}
    for file in FILES:
        facts["files"][file] = {"bytes": (beside / file).stat().st_size, "crc32": crc32(beside / file)}
    # A copy beside the data, from which a lost manifest can be made again.
    (beside / "segment.json").write_text(json.dumps({**facts, "about": about}))
    for path in beside.iterdir():
        sync(path)
    sync(beside)
    beside.rename(folder / name)
    sync(folder)
    return facts


def csv_lines(rows: Iterable[Sequence[object]]) -> list[bytes]:
    """Each row as its line of CSV, in UTF-8."""
    lines: list[bytes] = []

    class Sink:
        def write(self, line: str) -> None:
            lines.append(line.encode())

    csv.writer(Sink(), lineterminator="\n").writerows(rows)
    return lines


def read_lines(lines: Sequence[bytes], columns: dict[str, str]) -> pd.DataFrame:
    """Lines of CSV as a table of the given columns and kinds."""
    if not lines:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    # A blank line first, which is skipped: a byte order mark that begins a path would be taken for the file's own.
    text = "\n" + b"".join(lines).decode()
    missing = {name: ["", "nan"] for name, kind in columns.items() if kind == "float64"}
    return pd.read_csv(
        io.StringIO(text, newline=""),
        header=None,
        names=list(columns),
        dtype=dict(columns),
        keep_default_na=False,
        na_values=missing,
        lineterminator="\n",  # a lone carriage return is text: the writer quotes only what ends its own lines
    )


def digest64(values: Iterable[object]) -> NDArray[np.int64]:
    """64 bits of each value's text: equal texts, equal numbers, in every process."""
    codes, unique = pd.factorize(np.asarray([str(v) for v in values], dtype=object))
    known = [hashlib.blake2b(str(v).encode(), digest_size=8).digest() for v in unique]
    table: NDArray[np.int64] = np.frombuffer(b"".join(known), dtype="<i8").astype(np.int64)
    return table[codes]


def crc32(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def sync(path: Path) -> None:
    """Have the system put a file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Write beside, sync, rename."""
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    sync(beside)
    beside.replace(path)
    sync(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the index's lock; the system gives it back when the process ends, however it ends."""
    import fcntl

    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
