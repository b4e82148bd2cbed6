"""Scores for new films from a finished run: a view's probability, and its study's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from siamura._image_files import IMAGE_KINDS, find_images, natural_order, summarize_passed_over

from .folder import Run

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Predictor", "films", "studies_of"]

_log = logging.getLogger("siamura")


def films(paths: Iterable[str | os.PathLike[str]], *, study: str = "auto") -> pd.DataFrame:
    """List the image files behind files and folders, and say which belong to one study.

    Parameters
    ----------
    paths : iterable of path
        Files, and folders that are searched with all below them, by content: DICOM files need no suffix. What
        is passed over there (hidden files, files that are no images) is logged as a warning, with reasons.
    study : {"auto", "folder", "file"}
        ``folder``: the files of one folder are the views of one study. ``file``: each file is a study of its own.
        ``auto``: the first for folders named as MURA names them (``study1_positive``), the second elsewhere.

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
    """
    if study not in ("auto", "folder", "file"):
        raise ValueError(f"study={study!r} is unknown; choose auto, folder or file.")
    found: set[Path] = set()
    for given in map(Path, paths):
        if given.is_dir():
            images, passed_over = find_images(given)
            found.update(images)
            if said := summarize_passed_over(passed_over):
                _log.warning("%s: %s", given, said)
        elif given.is_file():
            found.add(given)
        else:
            raise FileNotFoundError(f"{given} does not exist; give image files or folders that hold some.")
    if not found:
        raise FileNotFoundError(f"no image files found; siamura reads {', '.join(IMAGE_KINDS)}.")
    rows = sorted({path.resolve() for path in found}, key=lambda path: natural_order(str(path)))
    together = [study == "folder" or (study == "auto" and p.parent.name.startswith("study")) for p in rows]
    names = [str(p.parent) if whole else str(p) for p, whole in zip(rows, together, strict=True)]
    return pd.DataFrame({"path": [str(p) for p in rows], "study": names})


_AT_ONCE = 32  # films read before they are embedded together


class Predictor:
    """A run's network and head, loaded once, for as many films as come.

    Parameters
    ----------
    run : Run
        A finished run.
    head : {"knn", "mlp"}
        Which head gives the probability.

    Raises
    ------
    ValueError
        If the run has no such head.
    """

    def __init__(self, run: Run, *, head: str = "knn") -> None:
        heads = run.heads()
        if head not in heads:
            raise ValueError(f"head={head!r} is unknown; the run has {', '.join(sorted(heads))}.")
        self.run, self.name = run, head
        self.net, self.head = run.network().eval(), heads[head]

    def embed(self, images: Iterable[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Embed greyscale images, uint8 (H, W) each, through the run's preprocessing: float32 (N, dim)."""
        import siamura

        pre = self.net.preprocess
        if pre is None:
            raise ValueError(
                f"the model in {self.run.folder} was saved without its preprocessing; train it again."
            )
        return siamura.embed(self.net, np.stack([pre(image) for image in images]), progress=False)

    def probability(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probability that a view is abnormal, float64 (N,)."""
        return np.asarray(self.head.predict_proba(embeddings)[:, 1], dtype=np.float64)

    def views(self, table: pd.DataFrame) -> pd.DataFrame:
        """Score the views of a table with a ``path`` column.

        Returns
        -------
        pandas.DataFrame
            Every row, with ``probability``; for one that could not be read it is missing, and ``problem`` has the
            reason.
        """
        from tqdm import tqdm

        from siamura.pixels import UnreadableImage, read_image

        rows: list[int] = []
        images: list[npt.NDArray[np.uint8]] = []
        embeddings: list[npt.NDArray[np.float32]] = []
        problems: dict[int, str] = {}
        for row, path in enumerate(tqdm(table["path"], desc="scoring", unit="view", disable=None)):
            try:
                images.append(read_image(path))
                rows.append(row)
            except UnreadableImage as error:
                problems[row] = " ".join(str(error).split())
            if images and (len(images) == _AT_ONCE or row == len(table) - 1):
                embeddings.append(self.embed(images))
                images = []
        probability = np.full(len(table), np.nan)
        if rows:
            probability[rows] = self.probability(np.concatenate(embeddings))
        problem = np.array([problems.get(row, "") for row in range(len(table))], dtype=str)
        return table.assign(probability=probability, problem=problem)


def studies_of(views: pd.DataFrame, *, threshold: float = 0.5) -> pd.DataFrame:
    """Aggregate scored views to studies: the mean of the views' probabilities, above `threshold` is abnormal.

    Parameters
    ----------
    views : pandas.DataFrame
        Of `Predictor.views`.
    threshold : float
        Between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        One row a study with ``study``, ``views``, ``unreadable``, ``probability`` and ``abnormal``; a study whose
        views are all unreadable has neither of the last two.
    """
    grouped = views.groupby("study", sort=True)["probability"]
    out = grouped.agg(
        views="count", unreadable=lambda p: int(p.isna().sum()), probability="mean"
    ).reset_index()
    out["abnormal"] = (out["probability"] > threshold).astype("boolean").mask(out["probability"].isna())
    return out
