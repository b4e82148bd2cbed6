"""Image files as views, and which of them make a study."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from siamura._files import printable
from siamura._image_files import IMAGE_KINDS, find_images, natural_order, summarize_passed_over
from siamura._validation import check_choice

__all__ = ["list_views"]

_log = logging.getLogger(__name__)

#: The name of a study's folder in MURA: these alone are taken for studies without `study`.
MURA_STUDY = re.compile(r"study\d+_(positive|negative)")


def list_views(paths: Iterable[str | os.PathLike[str]], *, study: str = "auto") -> pd.DataFrame:
    """List the image files behind files and folders, and say which belong to one study.

    Parameters
    ----------
    paths : iterable of path
        Files, and folders that are searched with all below them, by content: DICOM files need no suffix. What
        is passed over there (hidden files, files that are no images) is logged as a warning, with reasons.
    study : {"auto", "folder", "file"}
        ``folder``: the files of one folder are the views of one study. ``file``: each file is a study of its own.
        ``auto``: the first for folders named exactly as MURA names them (``study1_positive``), the second elsewhere.

    Returns
    -------
    pandas.DataFrame
        Columns ``path`` and ``study``, one row a file, sorted, no file twice.

    Raises
    ------
    FileNotFoundError
        If a path is not there, or no image is found at all.
    ValueError
        If `study` is none of the three.

    Examples
    --------
    >>> import cv2, numpy as np, tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "study1_positive"
    >>> folder.mkdir()
    >>> for name in ("a.png", "b.png"):
    ...     _ = cv2.imwrite(str(folder / name), np.zeros((8, 8), np.uint8))
    >>> list_views([folder])["study"].nunique()
    1
    """
    check_choice("study", study, ("auto", "folder", "file"))
    found: set[Path] = set()
    for given in map(Path, paths):
        if given.is_dir():
            images, passed_over = find_images(given)
            found.update(images)
            if said := summarize_passed_over(passed_over):
                _log.warning("%s: %s", printable(given), said)
        elif given.is_file():
            found.add(given)
        else:
            raise FileNotFoundError(f"{given} does not exist; give image files or folders that hold some.")
    if not found:
        raise FileNotFoundError(f"no image files found; siamura reads {', '.join(IMAGE_KINDS)}.")
    rows = sorted({path.resolve() for path in found}, key=lambda path: natural_order(str(path)))
    together = [
        study == "folder" or (study == "auto" and bool(MURA_STUDY.fullmatch(p.parent.name))) for p in rows
    ]
    names = [str(p.parent) if whole else str(p) for p, whole in zip(rows, together, strict=True)]
    return pd.DataFrame({"path": [str(p) for p in rows], "study": names})
