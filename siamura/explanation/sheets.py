"""What an intermediate layer sees: its feature maps, and a sheet of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .explaining import as_input
from .watching import undisturbed, watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from siamura.pixels import Preprocess

__all__ = ["feature_maps", "feature_sheet"]


def feature_maps(
    model: nn.Module,
    image: NDArray[np.uint8] | str | os.PathLike[str],
    layer: str | nn.Module,
    *,
    preprocess: Preprocess | None = None,
) -> NDArray[np.float32]:
    """Take one layer's output for an image.

    Parameters
    ----------
    model : Module
        Its modes, flags and hooks come back as they were.
    image : uint8 (H, W) or path
    layer : str or Module
        Gives a feature map (B, K, h, w); names are those of ``model.named_modules()``.
    preprocess : Preprocess, optional
        By default ``model.preprocess``.

    Returns
    -------
    float32 (K, h, w)

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> feature_maps(net, np.zeros((90, 60), np.uint8), "trunk").shape
    (512, 3, 3)
    """
    preprocess = preprocess or getattr(model, "preprocess", None)
    if preprocess is None:
        raise ValueError(
            "preprocess is missing, and the model holds none; give the one that it was trained with."
        )
    if isinstance(image, (str, os.PathLike)):
        from siamura.pixels import read_image

        image = read_image(image)
    with undisturbed(model), watch(model, layer) as seen, torch.no_grad():
        model(as_input(model, preprocess(image)))
        return np.asarray(seen.activation[0].float().cpu().numpy())


def feature_sheet(
    model: nn.Module,
    image: NDArray[np.uint8] | str | os.PathLike[str],
    layer: str | nn.Module,
    *,
    channels: int = 32,
    preprocess: Preprocess | None = None,
) -> Figure:
    """Draw a layer's most varied feature maps as one sheet (system E).

    Parameters
    ----------
    model, image, layer, preprocess
        See `feature_maps`.
    channels : int
        Maps drawn: those with the largest standard deviation, the largest first.

    Returns
    -------
    matplotlib.figure.Figure
        Each map scaled to its own range, its channel's number above it.
    """
    from matplotlib.figure import Figure

    if channels < 1:
        raise ValueError(f"channels={channels} must be at least 1.")
    maps = feature_maps(model, image, layer, preprocess=preprocess)
    chosen = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:channels]
    columns = min(8, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.25 * lines + 0.6), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, channel in zip(grid, chosen, strict=False):
        axes.imshow(maps[channel], cmap="gray")
        axes.set_title(str(channel), fontsize=7)
    name = layer if isinstance(layer, str) else type(layer).__name__
    figure.suptitle(
        f"{name}: {len(chosen)} of {len(maps)} maps of {maps.shape[2]} x {maps.shape[1]}", fontsize=9
    )
    return figure
