"""Boxes of lesions in the file's pixels, matched with a table."""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from siamura._files import printable
from siamura._validation import check_choice

from .checks import join_problems
from .labels import missing
from .names import listed
from .table import locate, open_sheet

log = logging.getLogger(__name__)

CORNERS: Final = ("x0", "y0", "x1", "y1")
_FILE: Final = ("path", "file", "filename", "image")


def read_boxes(
    source: str | os.PathLike[str] | pd.DataFrame,
    table: pd.DataFrame | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read boxes around lesions, and match them with a table by file.

    Parameters
    ----------
    source : path or DataFrame
        One line a box, with the columns ``path`` (or ``file``), ``x0``, ``y0``, ``x1``, ``y1``: the left, upper,
        right and lower edge in the file's own pixels, from 0. The ``lesions.csv`` of `make_phantoms` is one. A
        file can have several boxes.
    table : DataFrame, optional
        As `siamura.read_studies` returns it: only boxes of its files are given. Files are matched by path, and
        where no path fits by a name that is there once.
    columns : mapping, optional
        Your names to these, as in ``{"xmin": "x0"}``.
    root : path, optional
        Folder that relative paths start from. Default: that of the file.
    on_error : {"raise", "report"}
        Raise one ValueError that lists boxes that are none (no number, no area, outside the image) and files
        that are not there; or leave them out and keep them for :func:`siamura.studies.problems`.

    Returns
    -------
    DataFrame
        One row a box: ``path`` (str, absolute, as in `table`), the four edges (float64), further columns as they
        are. ``attrs["unmatched"]`` lists the files with boxes that `table` does not have, ``attrs["without"]``
        the paths of the table's rows with a label above 0 that have no box.

    Raises
    ------
    ValueError
        A column is missing, a box is wrong and ``on_error="raise"``, or no box is of a file of `table`.

    Examples
    --------
    >>> import pandas as pd
    >>> boxes = pd.DataFrame({"file": ["hand.png"], "x0": [10], "y0": [20], "x1": [30], "y1": [44.5]})
    >>> read_boxes(boxes, on_error="report", root=".")[["x0", "y1"]].shape  # hand.png is not there
    (0, 2)
    """
    check_choice("on_error", on_error, ("raise", "report"))
    sheet = open_sheet(source, root, _named(source, columns), ("path", *CORNERS))
    frame, name = sheet.frame, sheet.name
    bad: list[tuple[str, str]] = []
    known = None if table is None else _Files(table)
    sizes: dict[str, tuple[int, int] | None] = {}
    rows: list[tuple[str, float, float, float, float]] = []
    places: list[int] = []
    unmatched: dict[str, None] = {}
    cells = zip(frame["path"], *(frame[c] for c in CORNERS), strict=True)
    for i, (given, *edges) in enumerate(cells):
        where = f"{name}, row {i + 1}"
        if missing(given):
            bad.append((where, "the path is empty"))
            continue
        path = locate(str(given).strip(), sheet.base)
        match = path if known is None else known.find(path)
        there = match is not None and os.path.isfile(match)
        if match is None:
            unmatched[path] = None
        if not there and not (match is None and os.path.isfile(path)):
            bad.append((path, f"there is no such file ({where})"))
            continue
        if match is None:
            continue
        box = [_number(v) for v in edges]
        if match not in sizes:
            sizes[match] = _size(match)
        reason = _wrong(box, sizes[match])
        if reason:
            bad.append((path, f"{reason} ({where})"))
            continue
        rows.append((match, *box))  # type: ignore[arg-type]
        places.append(i)
    if bad and on_error == "raise":
        raise ValueError(join_problems(bad, name))
    if known is not None and len(frame) and not rows and not bad:
        raise ValueError(
            f"none of the {len(frame)} boxes of {name} is of a file of the table; the first is of "
            f"{printable(next(iter(unmatched)))}, the table's first file is {printable(known.first)}. Give root=."
        )
    result = pd.DataFrame(rows, columns=["path", *CORNERS]).astype(
        {"path": "str", **dict.fromkeys(CORNERS, "float64")}
    )
    extra = sheet.extra().drop(columns=[c for c in CORNERS if c in frame], errors="ignore")
    own = [c for c in ("part", "patient", "study", "label", "split") if c in frame and table is None]
    more = pd.concat([frame[own], extra], axis=1).iloc[places].reset_index(drop=True)
    result = pd.concat([result, more], axis=1)
    result.attrs = {"problems": tuple(bad), "unmatched": tuple(unmatched), "without": ()}
    if table is not None and known is not None:
        _tell(result, table, known, name)
    return result


class _Files:
    """The files of a table, to be found by path or by a name that is there once."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.paths: dict[str, str] = {os.path.normpath(path): path for path in table["path"]}
        self.real = {os.path.realpath(path): own for path, own in self.paths.items()}
        names = Counter(map(os.path.basename, self.paths))
        self.names = {
            os.path.basename(p): own for p, own in self.paths.items() if names[os.path.basename(p)] == 1
        }
        self.first = next(iter(self.paths), "")
        self.by_name: dict[str, None] = {}

    def find(self, path: str) -> str | None:
        """Give the table's path of a file; None where it has none."""
        if path in self.paths:
            return self.paths[path]
        if os.path.isfile(path):  # by another way, through a link
            return self.real.get(os.path.realpath(path))
        match = self.names.get(re.split(r"[\\/]", path)[-1])
        if match is not None:
            self.by_name[path] = None
        return match


def _named(source: object, columns: Mapping[str, str] | None) -> dict[str, str]:
    """Take a column called file and the like for the path, where none is named."""
    given = dict(columns or {})
    if "path" in given.values():
        return given
    if isinstance(source, pd.DataFrame):
        header = list(source.columns)
    else:
        header = list(open_sheet(source, needed=()).frame.columns)  # type: ignore[arg-type]
    plain = {str(c).strip().casefold(): c for c in header}
    own = next((plain[c] for c in _FILE if c in plain), None)
    return given if own is None or own == "path" else {own: "path", **given}


def _number(cell: Any) -> float:
    """Read an edge; NaN where it is no number."""
    try:
        return float(cell.replace(",", ".")) if isinstance(cell, str) else float(cell)
    except (TypeError, ValueError):
        return math.nan


def _wrong(box: list[float], size: tuple[int, int] | None) -> str:
    """Say what is wrong with a box; an empty text where nothing is."""
    x0, y0, x1, y1 = box
    shown = ", ".join(f"{v:g}" for v in box)
    if not np.isfinite(box).all():
        return f"the box {shown} has an edge that is no number"
    if x1 <= x0 or y1 <= y0:
        return f"the box {shown} has no area: x0 < x1 and y0 < y1 are wanted (no width and height)"
    if min(x0, y0) < 0:
        return f"the box {shown} begins before the image"
    if size is not None and (x1 > size[0] + 1 or y1 > size[1] + 1):
        return f"the box {shown} ends outside the image of {size[0]} x {size[1]} pixels"
    return ""


def _size(path: str) -> tuple[int, int] | None:
    """Read an image's width and height from its header, as it is shown; None where Pillow cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                turned = image.getexif().get(274, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _tell(boxes: pd.DataFrame, table: pd.DataFrame, known: _Files, name: str) -> None:
    """Say what was matched how, and what does not fit together."""
    held = set(boxes["path"])
    if known.by_name:
        log.warning(
            "%s: %d files are matched by name alone, as their paths are not there: %s",
            name,
            len(known.by_name),
            listed(known.by_name, 3),
        )
    unmatched = boxes.attrs["unmatched"]
    if unmatched:
        log.info("%s: %d files with boxes are not in the table", name, len(unmatched))
    if "label" in table:
        positive = table.loc[table["label"] > 0, "path"]
        boxes.attrs["without"] = tuple(p for p in positive if p not in held)
        log.info(
            "%s: %d of %d views with a finding have no box", name, len(boxes.attrs["without"]), len(positive)
        )
        against = sorted(held & set(table.loc[table["label"] == 0, "path"]))
        if against:
            log.warning("%s: %d views with label 0 have a box: %s", name, len(against), listed(against, 3))
