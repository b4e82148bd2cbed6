"""An image beside its similar cases, and what each pair shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import style
from .checks import as_image, as_images
from .images import draw_heat, draw_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def similar_cases(
    image: ArrayLike,
    cases: Sequence[ArrayLike],
    distances: ArrayLike,
    labels: ArrayLike,
    *,
    case_maps: Sequence[ArrayLike],
    image_maps: Sequence[ArrayLike],
    names: Sequence[str] = style.LABELS,
    note: str = "",
) -> Figure:
    """Draw an image beside its similar cases, and below each case what the pair shares.

    Parameters
    ----------
    image : array (H, W)
        The image that was asked for.
    cases : sequence of K arrays (H, W)
        Nearest first.
    distances : array of shape (K,)
        In the embedding space.
    labels : array of int, shape (K,)
        Codes, 0 to C - 1.
    case_maps : sequence of K arrays (h, w)
        Over each case: what of it is like the image. At least 0, of the case's aspect.
    image_maps : sequence of K arrays (h, w)
        Over the image: what of it is like each case. `siamura.explanation.shared_maps` gives both.
    names : sequence of C str
        The classes' names.
    note : str
        Whose images; say so of phantoms.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If lengths differ, a label has no name, or a map holds NaN or infinity.

    Examples
    --------
    >>> image = np.zeros((32, 32), dtype=np.uint8)
    >>> maps = [np.eye(4), np.eye(4)]
    >>> drawn = similar_cases(image, [image, image], [0.1, 0.2], [1, 0], case_maps=maps, image_maps=maps)
    >>> len(drawn.axes)  # three rows: the images, and two maps of each pair
    9
    """
    query, found = as_image(image), as_images(cases, "cases")
    away, codes = np.asarray(distances, dtype=np.float64), np.asarray(labels)
    over_case, over_image = as_images(case_maps, "case_maps"), as_images(image_maps, "image_maps")
    for name, count in (
        ("distances", len(away)),
        ("labels", len(codes)),
        ("case_maps", len(over_case)),
        ("image_maps", len(over_image)),
    ):
        if count != len(found):
            raise ValueError(f"{name} holds {count} values for {len(found)} cases; give one for each")
    odd = [code for code in codes.tolist() if code not in range(len(names))]
    if odd:
        raise ValueError(f"labels hold {odd[0]!r}; names has names for 0 to {len(names) - 1}")
    widest = max(shown.shape[1] / shown.shape[0] for shown in [query, *found])
    across = float(np.clip(1.6 * widest, 1.0, 2.2))  # inches, for rows of 1.6
    figure = style.new_figure(across * (len(found) + 1), 5.4)
    grid = figure.subplots(3, len(found) + 1, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    _draw(grid[0, 0], query)
    grid[0, 0].set_title("the image")
    for axes, words in (
        (grid[1, 0], "in the case,\nwhat is like\nthe image"),
        (grid[2, 0], "in the image,\nwhat is like\nthe case"),
    ):
        axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
    columns = zip(grid[:, 1:].T, found, over_case, over_image, codes, away, strict=True)
    for column, case, in_case, in_image, code, distance in columns:
        _draw(column[0], case)
        column[0].set_title(f"{names[int(code)]}\ndistance {distance:.2g}")
        _draw(column[1], case, in_case)
        _draw(column[2], query, in_image)
    style.footer(figure, note, "Each map is relative to its own maximum.")
    return figure


def _draw(axes: Axes, image: NDArray[Any], heat: NDArray[Any] | None = None) -> None:
    draw_image(axes, image)
    if heat is not None:
        draw_heat(axes, heat, image.shape)
