"""Boxes of lesions in training: masks beside the images of a batch, and what a network learns from them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from siamura.losses import localisation_loss

from .data import fetch, labels_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["BoxedRows", "place_boxes", "places_loss"]

_LOG = logging.getLogger(__name__)


class BoxedRows(Dataset[Any]):
    """Rows of a data set with their boxes beside: images, labels, masks uint8 (B, 1, S, S), boxed bool (B,).

    Masks are 255 inside the boxes; `boxed` says which rows have some.

    Parameters
    ----------
    rows : Dataset
        Images, or what stands for them, and labels.
    boxes : mapping of int to float (n, 4)
        By position: x0, y0, x1, y1 as shares of the square's side.
    size : int
        S, pixels.
    """

    def __init__(self, rows: Dataset[Any], boxes: Mapping[int, npt.NDArray[np.float64]], size: int) -> None:
        self.rows, self.boxes, self.size = rows, boxes, size

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitems__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images, labels = fetch(self.rows, positions)
        masks = torch.zeros(len(positions), 1, self.size, self.size, dtype=torch.uint8)
        for row, position in enumerate(positions):
            for x0, y0, x1, y1 in self.boxes.get(int(position), ()):
                if x1 > x0 and y1 > y0:  # else outside what the network is shown of the image
                    left, upper = int(x0 * self.size), int(y0 * self.size)
                    right, lower = int(np.ceil(x1 * self.size)), int(np.ceil(y1 * self.size))
                    masks[row, 0, upper:lower, left:right] = 255
        return images, labels, masks, torch.tensor([int(position) in self.boxes for position in positions])


def place_boxes(
    data: Any, lesions: str | os.PathLike[str] | pd.DataFrame, *, progress: bool = False
) -> dict[int, npt.NDArray[np.float64]]:
    """Match boxes with the rows of a data set, and move them into the network's square.

    Parameters
    ----------
    data : RadiographDataset
    lesions : path or DataFrame
        As `siamura.studies.read_boxes` takes it.
    progress : bool

    Returns
    -------
    dict of int to float64 (n, 4)
        By position of the rows that have boxes: x0, y0, x1, y1 as shares of the square's side.

    Raises
    ------
    ValueError
        If the data set has no table or no preprocessing, boxes are wrong, or none is of a row.
    """
    # Here, as they load OpenCV and pandas.
    from siamura.pixels import read_image
    from siamura.studies import read_boxes

    table, pre = getattr(data, "table", None), getattr(data, "pre", None)
    if table is None or pre is None:
        raise ValueError(
            f"lesions needs a RadiographDataset, which knows the files of its images; data is a {type(data).__name__}."
        )
    found = read_boxes(lesions, table)
    corners = {path: rows[["x0", "y0", "x1", "y1"]].to_numpy() for path, rows in found.groupby("path")}
    rows = [(row, path) for row, path in enumerate(table["path"]) if path in corners]
    placed = {}
    for row, path in tqdm(rows, desc="boxes", unit="image", disable=not progress):
        image = read_image(path)
        geometry = pre.apply(image)[1] if pre.crop_borders else pre.geometry(*image.shape)
        placed[row] = geometry.to_input(corners[path], clip=True) / pre.size
    labels = labels_of(data)
    _LOG.info(
        "where findings are is learnt too: %d of %d views with a label above 0 have a box; the %d views with label 0 "
        "and no box are taken to show none",
        int((labels[list(placed)] > 0).sum()),
        int((labels > 0).sum()),
        int((labels == 0).sum() - (labels[list(placed)] == 0).sum()),
    )
    return placed


def places_loss(logits: list[Tensor], masks: Tensor, boxed: Tensor, labels: Tensor) -> Tensor:
    """Mean of `localisation_loss` over the maps on which a network looks for places."""
    return torch.stack([localisation_loss(one, masks, boxed, labels > 0) for one in logits]).mean()
