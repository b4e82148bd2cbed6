"""Files of a run that may come from a stranger, or be damaged: looked at before they are read, and named if wrong."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["naming_damage", "read_arrays", "read_json"]


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Say of any error within that a file or folder of a run is damaged; whatever a stranger put there may cause it.

    A file that is missing or may not be read, and a package that is missing, keep their own error.
    """
    try:
        yield
    except (ImportError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        if str(path) in words:
            raise ValueError(words) from error
        said = words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"
        raise ValueError(
            f"{path} is damaged ({said}); run the experiment again, into another folder."
        ) from error


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read an ``.npz`` file of columns that have one length, after a look at how large it would become.

    Raises
    ------
    ValueError
        If it is no such file, or would be far larger in memory than it is on the disk.
    """
    most = max(_ANY_SIZE, _COMPRESSED * path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        whole = 0
        rows = set()
        for entry in archive.infolist():
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
            rows.add(shape[0] if shape else -1)
            whole += math.prod(shape) * dtype.itemsize
        if len(rows) != 1:
            raise ValueError("its columns have different lengths")
        if whole > most:
            raise ValueError(f"it would take {whole / 1e9:.1f} GB in memory")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


_ANY_SIZE = 256 << 20  # bytes that columns may take in memory, however small the file
_COMPRESSED = 100  # times that a larger file may grow: paths shrink to a fiftieth


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `ValueError` names the file where it is none."""
    with naming_damage(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object")
    return content
