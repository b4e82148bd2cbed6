"""Radiographs of a table as a torch data set, whose batches are ready made."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siamura._files import printable
from siamura._validation import check_choice, check_columns
from siamura.studies.labels import classes_of

from .preprocessing import Preprocess
from .store import map_store, open_store, preprocess_all

__all__ = ["RadiographDataset"]

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]


class RadiographDataset(Dataset[tuple[torch.Tensor, int]]):
    """Preprocessed radiographs with their labels, in the order of a table.

    Every file is read and preprocessed when the data set is made, by all cores; an item afterwards costs a
    copy. A `torch.utils.data.DataLoader` takes it as it is, with worker processes too; `batch` gives a whole
    batch by one indexing, without a loader.

    Parameters
    ----------
    table : DataFrame
        Columns ``path`` and ``label`` (whole numbers) at least; one row an image. ``patient``, where it is there,
        gives `patients`.
    pre : Preprocess
    cache : path or None
        A folder in which the preprocessed images are kept and memory-mapped, shared by runs and processes.
        None keeps them in memory.
    on_error : {"raise", "skip"}
        With files that cannot be read: raise an error that lists all of them; or leave them out, say so in
        the log, and list them in `unreadable`.
    progress : bool
        Show a bar while preprocessing.
    augment : callable or None
        Applied to every batch, uint8 (B, 1, S, S) to the same; see `Augmentation`. Where training runs on a
        GPU, leave it out here and let training apply it there.

    Attributes
    ----------
    table : DataFrame
        The rows that have an image, with a new index.
    images : uint8 (N, S, S)
    labels : int64 ndarray (N,)
        Of the rows that have an image: what a sampler and a head are to be made from, rather than the table.
    classes : tuple or None
        The names of the classes, where the table carries them, as those of `siamura.read_studies` do.
    unreadable : DataFrame
        ``path`` and ``reason`` of the rows left out.

    Examples
    --------
    >>> import cv2, numpy as np, pandas as pd, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "image1.png"
    >>> cv2.imwrite(str(file), np.tile(np.arange(200, dtype=np.uint8), (300, 1)))
    True
    >>> table = pd.DataFrame({"path": [str(file)], "label": [1]})
    >>> data = RadiographDataset(table, Preprocess(size=64), progress=False)
    >>> images, labels = data.batch([0, 0])
    >>> images.shape, images.dtype, labels.tolist()
    (torch.Size([2, 1, 64, 64]), torch.uint8, [1, 1])
    >>> data.labels
    array([1])
    """

    def __init__(
        self,
        table: pd.DataFrame,
        pre: Preprocess,
        cache: str | os.PathLike[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: bool = True,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        check_columns(table, ("path", "label"))
        if len(table) == 0:
            raise ValueError("table is empty: at least one row is wanted")
        check_choice("on_error", on_error, ("raise", "skip"))
        labels = _whole(table["label"])
        paths = _paths(table["path"])
        if cache is None:
            stored = preprocess_all(paths, pre, progress=progress)
        else:
            stored = open_store(paths, pre, cache, progress=progress)
        self.pre = pre
        self.augment = augment
        self.unreadable = pd.DataFrame(
            [(paths[row], reason) for row, reason in stored.unreadable], columns=["path", "reason"], dtype=str
        )
        if len(self.unreadable):
            listed = "\n".join(
                f"  {printable(path)}: {reason}" for path, reason in self.unreadable.to_numpy()
            )
            message = f"{len(self.unreadable)} of {len(paths)} images cannot be read:\n{listed}"
            if on_error == "raise":
                raise ValueError(
                    f'{message}\nMend or remove them, or pass on_error="skip" to leave them out.'
                )
            if len(stored.rows) == 0:
                raise ValueError(f"no image is left: {message}")
            log.warning("%s", message)
        self.table = table.iloc[stored.rows].reset_index(drop=True)
        self.images: NDArray[np.uint8] = stored.images
        self.labels: NDArray[np.int64] = labels[stored.rows]
        named = "classes" in table.attrs or "finding" in table
        self.classes: tuple[str, ...] | None = classes_of(table.assign(label=labels)) if named else None
        self._file = stored.file
        self._mapped = (0, len(self.table), len(self.table))  # the rows here, of all in the file

    def between(self, start: int, stop: int) -> RadiographDataset:
        """Give the rows from `start` up to `stop` as a data set of its own, without a copy of the pixels.

        Raises
        ------
        ValueError
            If there is no such row.

        Examples
        --------
        >>> import tempfile
        >>> from PIL import Image
        >>> file = f"{tempfile.mkdtemp()}/grey.png"
        >>> Image.new("L", (60, 40), color=128).save(file)
        >>> table = pd.DataFrame({"path": [file] * 3, "label": [0, 1, 1]})
        >>> RadiographDataset(table, Preprocess(size=32), progress=False).between(1, 3).labels
        array([1, 1])
        """
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"start={start}, stop={stop} are no rows of the {len(self)} of this data set.")
        part = copy.copy(self)
        attrs = self.table.attrs
        part.table = self.table.iloc[start:stop].reset_index(drop=True)
        part.table.attrs = dict(attrs)
        part.images, part.labels = self.images[start:stop], self.labels[start:stop]
        part.unreadable = self.unreadable.iloc[:0]
        first, _, every = self._mapped
        part._mapped = (first + start, first + stop, every)
        return part

    def __len__(self) -> int:
        return len(self.table)

    @property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each image, str (N,).

        Raises
        ------
        AttributeError
            If the table has no column ``patient``.
        """
        if "patient" not in self.table:
            raise AttributeError(
                "the table has no column 'patient', so the patients of these images are unknown; add the column, as "
                "the readers of siamura.studies do"
            )
        return self.table["patient"].to_numpy(dtype=np.str_)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One image as uint8 (1, S, S), and its label."""
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Give the items of a batch, which torch's `DataLoader` asks for at once and joins itself."""
        images, labels = self.batch(indices)
        return list(zip(images, labels.tolist(), strict=True))

    def batch(self, indices: Sequence[int]) -> Batch:
        """Give a whole batch: uint8 (B, 1, S, S) and int64 (B,).

        Parameters
        ----------
        indices : sequence of int
            Positions, in any order; one may stand there twice.
        """
        positions = np.asarray(indices, dtype=np.intp)
        # Indexing copies out of the map, so that a batch can be written to and outlives the store.
        images = torch.from_numpy(np.asarray(self.images[positions]))[:, None]
        if self.augment is not None:
            images = self.augment(images)
        return images, torch.from_numpy(self.labels[positions])

    def __repr__(self) -> str:
        values, counts = np.unique(self.labels, return_counts=True)
        said = ", ".join(f"{n} {self._class_name(int(v))}" for v, n in zip(values, counts, strict=True))
        where = "in memory" if self._file is None else f"mapped from {self._file.parent}"
        return (
            f"RadiographDataset({len(self)} images: {said}; {self.pre.size} px, {where},"
            f" {len(self.unreadable)} unreadable)"
        )

    def _class_name(self, label: int) -> str:
        if label < 0:
            return "unlabelled"
        if self.classes is not None and label < len(self.classes):
            return str(self.classes[label])
        return (
            {0: "negative", 1: "positive"}.get(label, "") if self.labels.max() <= 1 else f"of class {label}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the pixels, which are mapped again there."""
        state = self.__dict__.copy()
        if self._file is not None:
            del state["images"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._file is not None:
            first, last, every = self._mapped
            self.images = map_store(Path(self._file), every, self.pre.size)[first:last]


def _whole(column: pd.Series) -> NDArray[np.int64]:
    """Give the labels, before any file is read; NaN would become a number of its own, and 0.7 a 0."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero(~(np.abs(numbers) < 2**53) | (numbers != np.round(numbers)))
    if len(bad):
        raise ValueError(
            f"label is {column.iloc[bad[0]]!r} in row {bad[0]}, one of {len(bad)} that are no whole numbers; give 0"
            " (normal) or 1 (abnormal) for each image"
        )
    return numbers.astype(np.int64)


def _paths(column: pd.Series) -> list[str]:
    for row, path in enumerate(column):
        if not isinstance(path, str | os.PathLike):
            raise ValueError(
                f"path is {path!r} in row {row}; give the path of an image file, or leave that row out"
            )
    return [os.fspath(path) for path in column]
