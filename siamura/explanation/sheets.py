"""Sheets: what an intermediate layer sees, and what an image shares with its similar cases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from .explaining import as_input, embed_image, explain, known_preprocess, need_columns, read
from .targets import Similarity
from .watching import undisturbed, watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from siamura.pixels import Preprocess

__all__ = ["feature_maps", "feature_sheet", "similar_sheet"]


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
    preprocess = known_preprocess(model, preprocess)
    with undisturbed(model), watch(model, layer) as seen, torch.no_grad():
        model(as_input(model, preprocess(read(image))))
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

    Examples
    --------
    >>> from siamura import read_mura
    >>> from siamura.experiments import load_run
    >>> net, films = load_run("runs/first").network(), read_mura("phantoms")["path"]
    >>> figure = feature_sheet(net, films[0], "trunk.model.layer1", channels=8)
    >>> figure.get_suptitle()
    'trunk.model.layer1: 8 of 64 maps of 16 x 16'
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


def similar_sheet(
    model: nn.Module,
    image: NDArray[np.uint8] | str | os.PathLike[str],
    cases: pd.DataFrame,
    *,
    title: str | None = None,
    preprocess: Preprocess | None = None,
    **options: Any,
) -> Figure:
    """Draw an image beside its similar cases, and what each pair shares.

    Below each case stand two maps of the pair's similarity: over the case, what of it resembles the image; over
    the image, what of it resembles the case.

    Parameters
    ----------
    model : Module
    image : uint8 (H, W) or path
    cases : DataFrame
        What `CaseIndex.search` found for the image: path, distance, label.
    title : str, optional
        What the images are; say so of phantoms.
    preprocess : Preprocess, optional
        By default ``model.preprocess``.
    **options
        For `explain`.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from siamura import CaseIndex
    >>> from siamura.experiments import load_run
    >>> run = load_run("runs/first")
    >>> net, (embeddings, table) = run.network(), run.embeddings()
    >>> index = CaseIndex.create("runs/drawn_cases", model=net)
    >>> _ = index.add(embeddings, table)
    >>> found = index.search(embeddings[0], k=2, exclude_patient=table["patient"][0])
    >>> figure = similar_sheet(net, table["path"][0], found, title="Phantoms", method="gradcam")
    >>> len(figure.axes)  # three rows: the films, and two maps of each pair
    9
    """
    from matplotlib.figure import Figure

    need_columns(cases, "cases", ("path", "distance", "label"))
    if not len(cases):
        raise ValueError("cases is empty; nothing was found that could be drawn.")
    preprocess = known_preprocess(model, preprocess)
    query = read(image)
    wanted = Similarity(embed_image(model, query, preprocess=preprocess), "the image")
    others = [read(str(path)) for path in cases["path"]]
    widest = max(film.shape[1] / film.shape[0] for film in [query, *others])
    across = float(np.clip(1.9 * widest, 1.2, 2.4))  # inches, for rows of 1.9
    figure = Figure(figsize=(across * (len(cases) + 1), 6.2), layout="constrained")
    grid = figure.subplots(3, len(cases) + 1, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    grid[0, 0].imshow(query, cmap="gray", vmin=0, vmax=255)
    grid[0, 0].set_title("the image", fontsize=9)
    for axes, words in (
        (grid[1, 0], "in the case,\nwhat is like\nthe image"),
        (grid[2, 0], "in the image,\nwhat is like\nthe case"),
    ):
        axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=9, transform=axes.transAxes)
    for column, case, other in zip(grid[:, 1:].T, cases.itertuples(), others, strict=True):
        target = Similarity(embed_image(model, other, preprocess=preprocess), "the case")
        column[0].imshow(other, cmap="gray", vmin=0, vmax=255)
        named = "abnormal" if case.label else "normal"
        column[0].set_title(f"{named}\ndistance {case.distance:.2g}", fontsize=9)
        column[1].imshow(explain(model, other, wanted, preprocess=preprocess, **options).overlay(boxes=False))
        column[2].imshow(explain(model, query, target, preprocess=preprocess, **options).overlay(boxes=False))
    figure.suptitle(title or "Similar cases", fontsize=11)
    return figure
