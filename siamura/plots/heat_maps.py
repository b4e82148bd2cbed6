"""What the network saw: layers' outputs and heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from . import style
from .checks import as_image
from .images import bare, draw_heat, draw_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]


@style.styled
def feature_maps(
    maps: ArrayLike | Mapping[str, ArrayLike],
    *,
    image: ArrayLike | None = None,
    channels: int = 8,
    note: str = "",
) -> Figure:
    """Draw what the layers of a network put out for one image.

    Parameters
    ----------
    maps : array (C, H, W), or mapping of layer to such an array
        In the order in which the layers follow.
    image : array (H, W), optional
        What went in, drawn first.
    channels : int
        How many channels of a layer are drawn: those that vary most over the image.
    note : str
        Whose image, which network.

    Returns
    -------
    matplotlib.figure.Figure
        One row a layer, each channel on a scale of its own, titled by its number.

    Raises
    ------
    ValueError
        If a map has another shape or is not finite.

    Examples
    --------
    >>> maps = np.random.default_rng(0).normal(size=(4, 7, 7))
    >>> len(feature_maps({"conv": maps}, channels=3).axes)
    3
    """
    layers = {str(k): v for k, v in maps.items()} if isinstance(maps, Mapping) else {"": maps}
    if not layers or channels < 1:
        raise ValueError(f"{len(layers)} layers and channels={channels}: give at least one of each")
    arrays = {}
    for name, values in layers.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 3 or array.size == 0:
            raise ValueError(
                f"the map {name!r} has shape {array.shape}; it must be (channels, height, width) of one image"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"the map {name!r} holds NaN or infinity")
        arrays[name] = array
    columns = min(channels, max(len(array) for array in arrays.values()))
    lead = 1 if image is not None else 0
    each = min((style.PAGE - 0.3) / (columns + lead * 1.6), 1.3)
    figure = style.new_figure(style.PAGE, len(arrays) * (0.93 * each + 0.2) + 0.15)
    cells = figure.add_gridspec(len(arrays), columns + lead, width_ratios=[1.6] * lead + [1.0] * columns)
    if image is not None:
        first = figure.add_subplot(cells[:, 0])
        draw_image(first, as_image(image))
        first.set_title("input")
        first.set_anchor("N")
    for row, (name, array) in enumerate(arrays.items()):
        liveliest = np.argsort(-array.std(axis=(1, 2)), kind="stable")[:columns]
        for column, channel in enumerate(np.sort(liveliest)):
            axes = figure.add_subplot(cells[row, column + lead])
            axes.imshow(array[channel], cmap="cividis", interpolation="nearest", aspect="equal")
            bare(axes)
            axes.set_title(str(channel), fontsize=6, pad=2)
            if column == 0 and name:
                height, width = array.shape[1:]
                axes.set_ylabel(f"{name}\n{len(array)} × {height} × {width}", fontsize=6)
    style.footer(figure, note, f"The {columns} channels that vary most, each on its own scale (dark: low).")
    return figure


@style.styled
def heat_map(
    image: ArrayLike,
    heat: ArrayLike,
    boxes: Sequence[Box] | NDArray[np.float64] = (),
    *,
    truth: Sequence[Box] = (),
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw a radiograph, and beside it where the network looked.

    Parameters
    ----------
    image : array (H, W)
        The view's pixels.
    heat : array (h, w)
        Of the image's aspect, any scale; stretched over it. What is below 0 counts as 0.
    boxes : sequence of (x0, y0, x1, y1)
        In pixels of `image`.
    truth : sequence of (x0, y0, x1, y1)
        Where the abnormality is, as far as known (a phantom's lesion).
    title : str
        The answer: "abnormal, 0.93".
    note : str
        Whose image, which method.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the map is not finite, or a box has no area or leaves the image.

    Examples
    --------
    >>> figure = heat_map(np.zeros((64, 64), np.uint8), np.eye(8), [(4, 4, 30, 30)])
    >>> len(figure.axes[1].patches)
    1
    """
    pixels = as_image(image)
    warm = np.asarray(heat, dtype=np.float64)
    if warm.ndim == 3 and warm.shape[0] == 1:
        warm = warm[0]
    if warm.ndim != 2 or warm.size == 0 or not np.isfinite(warm).all():
        raise ValueError(f"heat has shape {warm.shape}; it must be finite numbers of shape (h, w)")
    height, width = pixels.shape[:2]
    for box in (*boxes, *truth):
        x0, y0, x1, y1 = box
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(
                f"box {tuple(box)} does not fit an image {width} wide and {height} high; give x0, y0, x1, y1"
            )
    figure = style.new_figure(style.COLUMN, 0.35 + 0.5 * style.COLUMN * min(height / width, 1.6))
    left, right = figure.subplots(1, 2)
    draw_image(left, pixels)
    left.set_title("image")
    draw_image(right, pixels)
    drawn = draw_heat(right, warm, pixels.shape)
    for box in truth:
        _box(right, box, "#FFFFFF", (0, (3, 2)))
    for box in boxes:
        _box(right, box, "#56B4E9", "-")
    right.set_title(title or "heat")

    scale = ScalarMappable(norm=drawn.norm, cmap="inferno")
    bar = figure.colorbar(scale, ax=right, fraction=0.05, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["0", "max"])
    bar.outline.set_linewidth(0.4)
    said = "Solid box: found." if len(boxes) else ""
    known = " Dashed box: where it is." if len(truth) else ""
    style.footer(figure, note, "" if warm.max() > 0 else "The map is 0 everywhere.", said + known)
    return figure


def _box(axes: Axes, box: Box, color: str, line: Any) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(
        Rectangle(
            (x0 - 0.5, y0 - 0.5),
            x1 - x0,
            y1 - y0,
            fill=False,
            edgecolor=color,
            linestyle=line,
            linewidth=1.2,
            path_effects=[withStroke(linewidth=2.2, foreground="black")],
        )
    )
