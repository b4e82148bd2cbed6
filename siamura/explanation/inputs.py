"""What every explanation takes: an image or its path, its preprocessing, tables with their columns, bounded sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siamura.pixels import read_image
from siamura.pixels.geometry import resized

if TYPE_CHECKING:
    import pandas as pd

    from siamura.pixels import Preprocess

__all__ = ["as_input", "bounded", "known_preprocess", "need_columns", "read", "shrunk"]


def bounded(shape: tuple[int, ...], most: int = 4_000_000) -> tuple[int, int]:
    """Height and width of the same proportions with at most so many pixels; a small image's own."""
    height, width = shape[:2]
    if height * width <= most:
        return height, width
    scale = (most / (height * width)) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))


def shrunk(image: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    """An image with a longest side of at most `largest` pixels; the image itself where it is."""
    scale = largest / max(image.shape)
    if scale >= 1:
        return image

    height, width = (max(1, round(side * scale)) for side in image.shape)
    return np.asarray(resized(image, height, width), dtype=np.uint8)


def need_columns(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    """Raise a ValueError that names the first column that a table lacks."""
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise ValueError(f"{name} lacks the column {lacking[0]!r}; it needs {', '.join(columns)}.")


def known_preprocess(model: nn.Module, preprocess: Preprocess | None) -> Preprocess:
    """Take the preprocessing given, or the model's own."""
    found: Preprocess | None = preprocess or getattr(model, "preprocess", None)
    if found is None:
        raise ValueError("preprocess is missing, and the model holds none; give the one it was trained with.")
    return found


def read(image: NDArray[np.uint8] | str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read the image if it is a path."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    return image


def as_input(model: nn.Module, square: NDArray[np.uint8]) -> torch.Tensor:
    """One preprocessed image as the model takes it: float (1, 1, S, S), from 0 to 255, on the model's device."""
    weight = next(model.parameters(), None)
    device = "cpu" if weight is None else weight.device
    return torch.from_numpy(np.ascontiguousarray(square))[None, None].float().to(device)
