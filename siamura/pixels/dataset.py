"""Radiographs of a table as a torch data set, whose batches are ready made."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .preprocessing import Preprocess
from .store import kept, mapped, prepared

__all__ = ["BatchLoader", "RadiographDataset"]

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]


class Ready(Protocol):
    """Data that give whole batches."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Give one batch."""


class RadiographDataset(Dataset[tuple[torch.Tensor, int]]):
    """Preprocessed radiographs with their labels, in the order of a table.

    Every file is read and preprocessed when the data set is made, by all cores; an item afterwards costs a
    copy. For a `torch.utils.data.DataLoader` pass ``collate_fn=lambda batch: batch``: `__getitems__` gives
    whole batches.

    Parameters
    ----------
    table : DataFrame
        Columns ``path`` and ``label`` (whole numbers) at least; one row an image.
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
    labels : int64 tensor (N,)
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
    >>> images, labels = data.__getitems__([0, 0])
    >>> images.shape, images.dtype, labels.tolist()
    (torch.Size([2, 1, 64, 64]), torch.uint8, [1, 1])
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
        missing = {"path", "label"} - set(table.columns)
        if missing:
            raise ValueError(
                f"table lacks the column {', '.join(sorted(missing))}; it has {', '.join(map(str, table))}"
            )
        if len(table) == 0:
            raise ValueError("table is empty: at least one row is wanted")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error!r}: use 'raise' or 'skip'")
        labels = _whole(table["label"])
        paths = _paths(table["path"])
        if cache is None:
            stored = prepared(paths, pre, progress=progress)
        else:
            stored = kept(paths, pre, cache, progress=progress)
        self.pre = pre
        self.augment = augment
        self.unreadable = pd.DataFrame(
            [(paths[row], reason) for row, reason in stored.unreadable], columns=["path", "reason"], dtype=str
        )
        if len(self.unreadable):
            listed = "\n".join(f"  {path}: {reason}" for path, reason in self.unreadable.to_numpy())
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
        self.labels = torch.from_numpy(labels[stored.rows])
        self._file = stored.file

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One image as uint8 (1, S, S), and its label."""
        images, labels = self.__getitems__([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Give a whole batch: uint8 (B, 1, S, S) and int64 (B,)."""
        positions = np.asarray(indices, dtype=np.intp)
        # Indexing copies out of the map, so that a batch can be written to and outlives the store.
        images = torch.from_numpy(np.asarray(self.images[positions]))[:, None]
        if self.augment is not None:
            images = self.augment(images)
        return images, self.labels[torch.from_numpy(positions)]

    def __repr__(self) -> str:
        positive = int(self.labels.sum())
        where = "in memory" if self._file is None else f"mapped from {self._file.parent}"
        return (
            f"RadiographDataset({len(self)} images, {positive} positive, {self.pre.size} px, {where},"
            f" {len(self.unreadable)} unreadable)"
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
            self.images = mapped(Path(self._file), len(self.table), self.pre.size)


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


class BatchLoader:
    """Ready batches of a data set, made by a thread while the network is busy with the one before.

    What a `torch.utils.data.DataLoader` gives, without a copy from item to item or from process to process:
    a batch is one indexing of the memory map.

    Parameters
    ----------
    data : RadiographDataset
    batch_sampler : iterable of lists of int
        A `siamura.samplers.PKBatchSampler`, or any other. It is asked `ahead` batches early.
    ahead : int
        Batches made before they are asked for.
    pin : bool
        Give page-locked tensors, which travel to a GPU without waiting (``.to(device, non_blocking=True)``).

    Attributes
    ----------
    waited : float
        Seconds for which batches have been waited for so far.

    Examples
    --------
    >>> import numpy as np, torch
    >>> class Ramp:
    ...     def __getitems__(self, indices):
    ...         return torch.tensor(indices), torch.zeros(len(indices))
    >>> [images.tolist() for images, labels in BatchLoader(Ramp(), [[0, 1], [2, 3]])]
    [[0, 1], [2, 3]]
    """

    def __init__(
        self, data: Ready, batch_sampler: Iterable[Sequence[int]], *, ahead: int = 2, pin: bool = False
    ) -> None:
        if ahead < 1:
            raise ValueError(f"ahead={ahead!r}: at least 1 batch is wanted")
        self.data = data
        self.batch_sampler = batch_sampler
        self.ahead = ahead
        self.pin = pin
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of one epoch."""
        pending: deque[Future[Batch]] = deque()
        # One thread: batches, and with them the draws of an augmentation, keep their order.
        pool = ThreadPoolExecutor(1, thread_name_prefix="siamura-batches")
        try:
            for indices in self.batch_sampler:
                pending.append(pool.submit(self._made, indices))
                if len(pending) > self.ahead:
                    yield self._awaited(pending.popleft())
            while pending:
                yield self._awaited(pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _made(self, indices: Sequence[int]) -> Batch:
        images, labels = self.data.__getitems__(indices)
        return (images.pin_memory(), labels.pin_memory()) if self.pin else (images, labels)

    def _awaited(self, batch: Future[Batch]) -> Batch:
        start = time.perf_counter()
        try:
            return batch.result()
        finally:
            self.waited += time.perf_counter() - start
