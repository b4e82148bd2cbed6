"""Figures that show radiographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import style
from .checks import as_image, as_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


@style.styled
def clahe_pairs(
    originals: Sequence[ArrayLike],
    processed: Sequence[ArrayLike],
    *,
    titles: Sequence[str] | None = None,
    note: str = "",
) -> Figure:
    """Draw radiographs before and after CLAHE, with the histograms of their grey levels.

    Parameters
    ----------
    originals, processed : sequences of arrays (H, W), uint8
        As many of the one as of the other.
    titles : sequence of str, optional
        One a pair.
    note : str
        Whose images, which clip limit and tiles.

    Returns
    -------
    matplotlib.figure.Figure
        One row a pair: before, after, both histograms.

    Raises
    ------
    ValueError
        If the lengths differ or a pixel is outside 0 to 255.

    Examples
    --------
    >>> image = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    >>> len(clahe_pairs([image], [image * 3]).axes)
    3
    """
    before, after = as_images(originals, "originals"), as_images(processed, "processed")
    if len(before) != len(after):
        raise ValueError(
            f"originals holds {len(before)} images and processed {len(after)}; give them in pairs"
        )
    if titles is not None and len(titles) != len(before):
        raise ValueError(f"titles holds {len(titles)} texts for {len(before)} pairs")
    for image in (*before, *after):
        if image.min() < 0 or image.max() > 255:
            raise ValueError(
                f"a grey level is {image.min()} to {image.max()}; images must be 8 bit, 0 to 255"
            )
    figure = style.new_figure(style.PAGE, 0.35 + 2.1 * len(before))
    grid = figure.subplots(len(before), 3, squeeze=False, width_ratios=[1, 1, 1.25])
    for row, (left, right) in enumerate(zip(before, after, strict=True)):
        for axes, image in zip(grid[row], (left, right), strict=False):
            draw_image(axes, image)
        if titles is not None:
            grid[row, 0].set_ylabel(titles[row])
        _histograms(grid[row, 2], left, right)
    for axes, title in zip(grid[0], ("before", "after CLAHE", "grey levels"), strict=True):
        axes.set_title(title)
    grid[0, 2].legend(loc="upper right")
    grid[-1, 2].set_xlabel("grey level")
    style.footer(figure, note)
    return figure


def _histograms(axes: Axes, before: NDArray[Any], after: NDArray[Any]) -> None:
    for image, name, color, line in (
        (before, "before", "#333333", ":"),
        (after, "after", style.PALETTE[1], "-"),
    ):
        share, edges = np.histogram(image, bins=64, range=(0, 256))
        axes.stairs(100 * share / image.size, edges, color=color, linestyle=line, linewidth=1.1, label=name)
    # Black borders would press everything else flat.
    inner = np.concatenate(
        [np.histogram(i, bins=64, range=(0, 256))[0][1:-1] / i.size for i in (before, after)]
    )
    axes.set_ylim(0, max(100 * float(inner.max()) * 1.15, 1.0))
    axes.set_xlim(0, 256)
    axes.set_xticks([0, 64, 128, 192, 255])
    axes.set_ylabel("% of pixels")
    style.grid(axes)


@style.styled
def augmentation_sheet(image: ArrayLike, augmented: Sequence[ArrayLike], *, note: str = "") -> Figure:
    """Draw an image beside augmented versions of it.

    Parameters
    ----------
    image : array (H, W) or (1, H, W)
        As it is.
    augmented : sequence of arrays, or array (N, H, W)
        Versions of it; six fill the sheet.
    note : str
        Whose image, which augmentation.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> image = np.zeros((32, 32), dtype=np.uint8)
    >>> [axes.get_title() for axes in augmentation_sheet(image, [image] * 6).axes]
    ['original', '1', '2', '3', '4', '5', '6']
    """
    original, versions = as_image(image), as_images(augmented, "augmented")
    rows = 2 if len(versions) > 2 else 1
    columns = math.ceil(len(versions) / rows)
    figure = style.new_figure(style.PAGE, 0.3 + style.PAGE * rows / (columns + rows) * 1.06)
    cells = figure.add_gridspec(rows, columns + rows)
    first = figure.add_subplot(cells[:, :rows])
    draw_image(first, original)
    first.set_title("original")
    first.set_anchor("N")
    for number, version in enumerate(versions):
        axes = figure.add_subplot(cells[number // columns, rows + number % columns])
        draw_image(axes, version)
        axes.set_title(str(number + 1))
    style.footer(figure, note)
    return figure


@style.styled
def neighbours(
    query: ArrayLike,
    cases: Sequence[ArrayLike],
    distances: ArrayLike,
    labels: ArrayLike,
    *,
    query_label: int | None = None,
    names: Sequence[str] = style.LABELS,
    captions: Sequence[str] | None = None,
    note: str = "",
) -> Figure:
    r"""Draw a radiograph and the earlier cases nearest to it.

    Parameters
    ----------
    query : array (H, W)
        The new image.
    cases : sequence of K arrays (H, W)
        Nearest first.
    distances : array of shape (K,)
        In the embedding space.
    labels : array of shape (K,)
        Codes of the classes, 0 to C - 1; the frames of class 0 are solid, of the others dashed.
    query_label : int, optional
        The query's own label, where it is known.
    names : sequence of str
        Names of the classes by code, as `siamura.studies.classes_of` gives them.
    captions : sequence of K str, optional
        A further line under each case, its patient say.
    note : str
        Whose images, in which index.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If lengths differ or a distance is not a finite number.

    Examples
    --------
    >>> image = np.zeros((32, 32), dtype=np.uint8)
    >>> [axes.get_title() for axes in neighbours(image, [image, image], [0.1, 0.25], [1, 0]).axes]
    ['query', '1: abnormal\ndistance 0.100', '2: normal\ndistance 0.250']
    """
    new, found = as_image(query, "query"), as_images(cases, "cases")
    away, label = np.asarray(distances, dtype=np.float64), np.asarray(labels)
    for name, values in (("distances", away), ("labels", label)):
        if values.shape != (len(found),):
            raise ValueError(
                f"{name} has shape {values.shape}; it must hold one value a case, shape ({len(found)},)"
            )
    listed = ", ".join(f"{code} ({name})" for code, name in enumerate(names))
    odd = [value for value in label.tolist() if value not in range(len(names))]
    if odd:
        raise ValueError(f"labels hold {odd[0]!r}; they must be codes of the names: {listed}")
    if not np.isfinite(away).all():
        raise ValueError(
            "distances hold NaN or infinity; leave out the neighbours that were not found (id -1)"
        )
    if captions is not None and len(captions) != len(found):
        raise ValueError(f"captions holds {len(captions)} texts for {len(found)} cases")
    if query_label is not None and query_label not in range(len(names)):
        raise ValueError(f"query_label is {query_label!r}; it must be one of {listed}, or None")
    columns = min(len(found), 5)
    rows = math.ceil(len(found) / columns)
    each = min(style.PAGE / (columns + 1.25), 1.6)
    below = 0.25 if captions is not None else 0.0
    height = max(rows * (each + 0.4 + below), 1.25 * each + 0.45)
    figure = style.new_figure(each * (columns + 1.25), height + 0.1)
    cells = figure.add_gridspec(rows, columns + 1, width_ratios=[1.25] + [1.0] * columns)
    first = figure.add_subplot(cells[:, 0])
    draw_image(first, new)
    first.set_anchor("N")
    first.set_title("query" if query_label is None else f"query\n{names[int(query_label)]}")
    if query_label is not None:
        _frame(first, int(query_label))
    for number, case in enumerate(found):
        axes = figure.add_subplot(cells[number // columns, 1 + number % columns])
        draw_image(axes, case)
        _frame(axes, int(label[number]))
        axes.set_title(f"{number + 1}: {names[int(label[number])]}\ndistance {away[number]:.3f}", fontsize=7)
        if captions is not None:
            axes.set_xlabel(captions[number], fontsize=6)
    style.footer(figure, note, f"Solid frame: {names[0]}; dashed frame: {', '.join(names[1:])}.")
    return figure


def draw_image(axes: Axes, image: NDArray[Any]) -> None:
    """Draw one radiograph: 8 bit from black 0 to white 255, anything else over its own range."""
    if image.ndim == 2:
        most = 255 if image.dtype == np.uint8 else None
        axes.imshow(image, cmap="gray", vmin=0 if most else None, vmax=most, interpolation="antialiased")
    else:
        axes.imshow(image)
    bare(axes)


def draw_heat(axes: Axes, heat: NDArray[Any], shape: tuple[int, ...]) -> AxesImage:
    """Draw a map over an image of `shape`, relative to the map's own maximum: the cooler, the clearer."""
    share = np.clip(heat, 0, None)
    share = share / share.max() if share.max() > 0 else share
    height, width = shape[:2]
    return axes.imshow(
        share,
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=0.15 + 0.5 * share,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear",
    )


def bare(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(axes: Axes, label: int) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_edgecolor(style.class_look(label)[0])
        spine.set_linestyle("--" if label else "-")
        spine.set_linewidth(1.8)
