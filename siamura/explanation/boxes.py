"""Boxes around what a heat map shows, and how boxes agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

__all__ = ["box_iou", "centre_box", "find_boxes", "peak_of"]


def find_boxes(
    heat: ArrayLike, threshold: float = 0.2, *, maximum: float | None = None, min_area: float | None = None
) -> NDArray[np.int64]:
    """Box the connected parts of a map that reach a share of its maximum.

    Parameters
    ----------
    heat : float (H, W)
        At least 0 (the map after its ReLU).
    threshold : float
        Share of the maximum, in (0, 1].
    maximum : float, optional
        Of the map that `heat` was enlarged from; by default that of `heat`.
    min_area : float, optional
        None: the largest part alone, as system D does. Otherwise every part that covers at least this share of the
        image, the largest first.

    Returns
    -------
    int64 (n, 4)
        x0, y0, x1, y1 in pixels, x1 and y1 outside. Empty for a map of zeros.

    Examples
    --------
    >>> heat = np.zeros((6, 8))
    >>> heat[1:3, 2:5] = 1.0
    >>> heat[5, 7] = 0.5
    >>> find_boxes(heat).tolist()
    [[2, 1, 5, 3]]
    >>> find_boxes(heat, min_area=0.0).tolist()
    [[2, 1, 5, 3], [7, 5, 8, 6]]
    """
    values = np.asarray(heat, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"heat has shape {values.shape}; a finite map (H, W) is needed.")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must be above 0 and at most 1.")
    top = float(values.max(initial=0.0)) if maximum is None else float(maximum)
    if top <= 0:
        return np.empty((0, 4), np.int64)
    parts, count = ndimage.label(values >= threshold * top, structure=np.ones((3, 3)))
    if not count:
        return np.empty((0, 4), np.int64)
    areas = np.bincount(parts.ravel())[1:]
    order = np.argsort(-areas, kind="stable")
    if min_area is None:
        order = order[:1]
    else:
        order = order[areas[order] >= min_area * values.size]
    places = ndimage.find_objects(parts)
    boxes = [(places[i][1].start, places[i][0].start, places[i][1].stop, places[i][0].stop) for i in order]
    return np.asarray(boxes, dtype=np.int64).reshape(-1, 4)


def peak_of(heat: ArrayLike) -> tuple[float, float] | None:
    """Centre of a map's warmest pixel, x and y in pixels; of several as warm, of the one nearest to their mean.

    Parameters
    ----------
    heat : float (H, W)

    Returns
    -------
    (float, float) or None
        None for a map without a value above 0.

    Examples
    --------
    >>> peak_of([[0, 1, 0], [0, 0, 0]]), peak_of([[0.0]])
    ((1.5, 0.5), None)
    """
    values = np.asarray(heat)
    top = values.max(initial=0)
    if not top > 0:
        return None
    y, x = np.nonzero(values >= top * (1 - 1e-6))
    nearest = np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2)
    return float(x[nearest] + 0.5), float(y[nearest] + 0.5)


def box_iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Parameters
    ----------
    first : (n, 4)
        x0, y0, x1, y1.
    second : (m, 4)

    Returns
    -------
    float64 (n, m)

    Examples
    --------
    >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2]]).round(3).tolist()
    [[0.333, 1.0]]
    """
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    either = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def centre_box(height: int, width: int, size: tuple[float, float]) -> NDArray[np.float64]:
    """Place a box of the given size (width, height) in the middle of an image: the baseline that looks at nothing.

    Examples
    --------
    >>> centre_box(10, 20, (4, 6)).tolist()
    [8.0, 2.0, 12.0, 8.0]
    """
    w, h = min(size[0], width), min(size[1], height)
    x, y = (width - w) / 2, (height - h) / 2
    return np.array([x, y, x + w, y + h])
