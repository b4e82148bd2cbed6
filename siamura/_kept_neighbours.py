"""An inverted file over rows, kept in a file beside them: written with its facts, opened by them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamura.neighbours import Neighbours

__all__ = ["keep", "reopen", "sweep"]

log = logging.getLogger(__name__)


def keep(rows: NDArray[np.float32], groups: NDArray[np.int64] | None, path: Path) -> dict[str, Any]:
    """Build an inverted file, and write it; return what `reopen` has to know: ``rows``, ``bytes``, ``recall``."""
    near = Neighbours(rows, groups, kind="ivf")
    near.save(path)
    return {"rows": len(rows), "bytes": path.stat().st_size, "recall": near.recall}


def reopen(
    rows: NDArray[np.float32], groups: NDArray[np.int64], path: Path, facts: dict[str, Any]
) -> Neighbours:
    """Open what `keep` wrote for the first of these rows, and add the others.

    Where the file is missing or damaged every row is searched, and a warning says so: slower, and no worse.
    """
    n = facts["rows"]
    try:
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            raise ValueError(f"{path} is missing or has another size than was written")
        near = Neighbours(rows[:n], groups[:n], kind="ivf", kept=path, recall=facts["recall"])
    except ValueError as error:
        log.warning("%s; searching every case until the next addition makes it again.", error)
        return Neighbours(rows, groups)
    if n < len(rows):
        near.add(rows[n:], groups[n:])
    return near


def sweep(kept: Path) -> None:
    """Remove the files whose names differ from this one's after the last hyphen: they hold rows of earlier states."""
    stem = kept.name[: kept.name.rindex("-") + 1]
    for path in kept.parent.iterdir():
        if path.name.startswith(stem) and path != kept:
            path.unlink(missing_ok=True)
