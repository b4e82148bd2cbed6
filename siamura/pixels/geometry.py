"""Where the network's square came from: points, boxes and maps, there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Geometry", "resized"]


@dataclass(frozen=True)
class Geometry:
    """Where the network's square came from: maps points, boxes and heat maps there and back.

    Coordinates are (x, y) in pixels, counted at their edges: pixel ``i`` spans ``i`` to ``i + 1``, and a box
    is ``(x0, y0, x1, y1)`` with ``x1``, ``y1`` outside. Both directions are exact but for the rounding of
    floats.

    Parameters
    ----------
    height, width : int
        The original image.
    size : int
        The network's square.
    source : (int, int, int, int)
        The part of the original that was used: x0, y0, x1, y1.
    target : (int, int, int, int)
        Where that part lies in the square: x0, y0, x1, y1. What is around it is padding.

    Examples
    --------
    >>> from siamura.pixels import Preprocess
    >>> geometry = Preprocess(size=100, fit="letterbox").geometry(height=200, width=400)
    >>> geometry.target
    (0, 25, 100, 75)
    >>> geometry.to_original([[50, 50]]).tolist()
    [[200.0, 100.0]]
    >>> geometry.to_input((0, 0, 400, 200)).tolist()
    [0.0, 25.0, 100.0, 75.0]
    """

    height: int
    width: int
    size: int
    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the square a pixel of the original: horizontally, vertically."""
        (x0, y0, x1, y1), (u0, v0, u1, v1) = self.source, self.target
        return (u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)

    def to_input(self, points: ArrayLike, *, clip: bool = False) -> NDArray[np.float64]:
        """Move points or boxes of the original into the network's square.

        Parameters
        ----------
        points : (..., 2) or (..., 4)
            x, y; or x0, y0, x1, y1. Pixels of the original.
        clip : bool
            Hold the result within the image's part of the square.

        Returns
        -------
        float64, same shape
        """
        return _moved(points, self.source, self.target, self.target if clip else None)

    def to_original(self, points: ArrayLike, *, clip: bool = False) -> NDArray[np.float64]:
        """Move points or boxes of the network's square back into the original.

        Parameters
        ----------
        points : (..., 2) or (..., 4)
            x, y; or x0, y0, x1, y1. Pixels of the square.
        clip : bool
            Hold the result within the original: what lay in the padding comes to the image's edge.

        Returns
        -------
        float64, same shape
        """
        bounds = (0, 0, self.width, self.height)
        return _moved(points, self.target, self.source, bounds if clip else None)

    def map_to_original(
        self, values: ArrayLike, size: tuple[int, int] | None = None, *, rows: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Spread a map over the square (a heat map, of any resolution) over the original's pixels.

        Parameters
        ----------
        values : (h, w) float
            Covers the whole square, padding included; bilinear between the centres of its cells.
        size : (int, int), optional
            Height and width of the result where it is not the original's: the original made smaller or larger.
        rows : slice
            Only these rows of the result, for large originals.

        Returns
        -------
        float32 (height, width)
            0 where the original was cut off and the network saw nothing.
        """
        grid = _grid(values)
        height, width = size or (self.height, self.width)
        (x0, y0, x1, y1), (kx, ky) = self.source, self.scale
        # Where the centres of the result's pixels lie in the original, and from there in the square.
        ys = ((np.arange(height) + 0.5) * (self.height / height))[rows]
        xs = (np.arange(width) + 0.5) * (self.width / width)
        down = _weights((self.target[1] + (ys - y0) * ky) * (grid.shape[0] / self.size), grid.shape[0])
        across = _weights((self.target[0] + (xs - x0) * kx) * (grid.shape[1] / self.size), grid.shape[1])
        down[(ys < y0) | (ys > y1)] = 0
        across[(xs < x0) | (xs > x1)] = 0
        # Nothing else of the result's size is held.
        out: NDArray[np.float32] = np.matmul(down @ grid, across.T)
        return out

    def map_to_input(self, values: ArrayLike) -> NDArray[np.float32]:
        """Bring a map over the original (a lesion's mask) into the network's square.

        Parameters
        ----------
        values : (height, width) float

        Returns
        -------
        float32 (size, size)
            Resized as the image is; 0 in the padding.
        """
        grid = _grid(values)
        if grid.shape != (self.height, self.width):
            raise ValueError(
                f"values of shape {grid.shape}: the original has {(self.height, self.width)} (height, width)"
            )
        (x0, y0, x1, y1), (u0, v0, u1, v1) = self.source, self.target
        out = np.zeros((self.size, self.size), np.float32)
        out[v0:v1, u0:u1] = resized(grid[y0:y1, x0:x1], v1 - v0, u1 - u0)
        return out


def resized(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Area mean where an axis shrinks, linear where it grows (OpenCV's area mode alone goes blocky there)."""
    h, w = image.shape
    shrunk = (min(h, height), min(w, width))
    if shrunk != (h, w):
        image = cv2.resize(image, (shrunk[1], shrunk[0]), interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.array(image, order="C")  # a copy always: the caller may write to what it gets


def _moved(
    points: ArrayLike,
    start: tuple[int, int, int, int],
    end: tuple[int, int, int, int],
    bounds: tuple[int, int, int, int] | None,
) -> NDArray[np.float64]:
    xy = np.asarray(points, dtype=np.float64)
    if xy.ndim == 0 or xy.shape[-1] not in (2, 4):
        raise ValueError(f"points of shape {xy.shape}: the last axis must hold x, y or x0, y0, x1, y1")
    pairs = xy.reshape(-1, 2)
    origin, side = np.array(start[:2]), np.subtract(start[2:], start[:2])
    moved: NDArray[np.float64] = np.array(end[:2]) + (pairs - origin) * np.subtract(end[2:], end[:2]) / side
    if bounds is not None:
        moved = np.clip(moved, bounds[:2], bounds[2:])
    return moved.reshape(xy.shape)


def _grid(values: ArrayLike) -> NDArray[np.float32]:
    grid = np.asarray(values, dtype=np.float32)
    if grid.ndim != 2 or grid.size == 0:
        raise ValueError(f"values of shape {grid.shape}: a map (height, width) is wanted")
    return grid


def _weights(at: NDArray[np.float64], cells: int) -> NDArray[np.float32]:
    """Weights float32 (len(at), cells) of linear interpolation: cell centres at i + 0.5, held at the edges."""
    position = np.clip(at - 0.5, 0, cells - 1)
    low = np.floor(position).astype(np.intp)
    share = (position - low).astype(np.float32)
    out = np.zeros((len(at), cells), np.float32)
    one = np.arange(len(at))
    out[one, np.minimum(low + 1, cells - 1)] = share
    out[one, low] += 1 - share
    return out
