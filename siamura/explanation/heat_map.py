"""A heat map over an image, in the pixels of the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from .boxes import peak_of
from .inputs import bounded, shrunk

if TYPE_CHECKING:
    from siamura.pixels import Geometry

__all__ = ["Explanation"]

STRIP = 256  # rows of an overlay that are computed at once


@dataclass(frozen=True, eq=False)
class Explanation:
    """A heat map over an image, in the pixels of the original.

    Parameters
    ----------
    image : uint8 (H, W)
        The original.
    raw : float32 (h, w)
        The map as the layer gave it, or the product of several layers' maps, over the network's square.
    boxes : int64 (n, 4)
        x0, y0, x1, y1 in the original's pixels, x1 and y1 outside; the largest part first.
    score : float
        What the target gave for the image.
    target, method : str
        What was mapped, and how.
    layers : tuple of str
        In which layers.
    threshold : float
        Share of the maximum that the boxes enclose.
    square : uint8 (S, S)
        What the network saw.
    geometry : Geometry
        From the square to the original and back.

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess, plots
    >>> from siamura.explanation import Similarity, explain
    >>> image = np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8)
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> seen = explain(net, image, Similarity(np.ones(8), "the reference"))
    >>> seen.target, seen.method
    ('similarity to the reference', 'layercam')
    >>> seen.heat.shape == seen.image.shape
    True
    >>> figure = plots.heat_map(*seen.downscaled(), title=seen.target, note=seen.description)
    """

    image: NDArray[np.uint8]
    raw: NDArray[np.float32]
    boxes: NDArray[np.int64]
    score: float
    target: str
    method: str
    layers: tuple[str, ...]
    threshold: float
    square: NDArray[np.uint8]
    geometry: Geometry

    @property
    def heat(self) -> NDArray[np.float32]:
        """The map over the original, float32 (H, W): at least 0, in the units of `raw`; computed when asked for."""
        return self.geometry.map_to_original(self.raw)

    @property
    def layer(self) -> str:
        """The layers' names, in one line."""
        return ", ".join(self.layers)

    @property
    def map(self) -> NDArray[np.float32]:
        """The map over the original, scaled to 0..1 by the maximum of the raw map."""
        return self.map_at(*self.image.shape)

    def map_at(self, height: int, width: int, *, rows: slice = slice(None)) -> NDArray[np.float32]:
        """The map over the whole original made smaller or larger, scaled to 0..1: float32 (height, width).

        Parameters
        ----------
        height, width : int
            Of the result, in pixels.
        rows : slice
            Only these rows of it.
        """
        top = float(self.raw.max())
        scaled = self.raw / np.float32(top) if top > 0 else self.raw
        return self.geometry.map_to_original(scaled, (height, width), rows=rows)

    @property
    def peak(self) -> tuple[float, float] | None:
        """The warmest pixel's centre, x and y in the original's pixels; None for a map of zeros."""
        heat = self.map_at(*bounded(self.image.shape))
        found = peak_of(heat)
        if found is None:
            return None
        down, across = self.image.shape[0] / heat.shape[0], self.image.shape[1] / heat.shape[1]
        return found[0] * across, found[1] * down

    def overlay(
        self,
        alpha: float = 0.5,
        *,
        boxes: bool = True,
        colours: str = "turbo",
        largest: int | None = None,
    ) -> NDArray[np.uint8]:
        """Lay the map over the image.

        Parameters
        ----------
        alpha : float
            How much of the colour shows at the maximum; where the map is 0 the image is untouched.
        boxes : bool
            Draw the boxes, in white.
        colours : str
            A matplotlib colour map.
        largest : int, optional
            Longest side of the result, in pixels, where the original is larger: for a screen. By default the
            original's size.

        Returns
        -------
        uint8 (H, W, 3)
            RGB.
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} must be from 0 to 1.")
        image = self.image if largest is None else shrunk(self.image, largest)
        height, width = image.shape
        table = np.float32(255) * colormaps[colours](np.arange(256))[:, :3].astype(np.float32)
        out = np.empty((height, width, 3), np.uint8)
        for top in range(
            0, height, STRIP
        ):  # strips: floats of the whole would take gigabytes of a large image
            rows = slice(top, min(top + STRIP, height))
            heat = np.clip(self.map_at(*image.shape, rows=rows), 0, 1)
            share = (np.float32(alpha) * np.sqrt(heat))[..., None]
            colour = table[np.minimum(heat * 256, 255).astype(np.uint8)]
            out[rows] = np.rint((1 - share) * image[rows, :, None] + share * colour)
        if boxes:
            line = max(1, round(min(image.shape) / 100))
            down, across = height / self.image.shape[0], width / self.image.shape[1]
            for x0, y0, x1, y1 in np.rint(self.boxes * [across, down, across, down]).astype(int):
                for part in (
                    np.s_[y0 : y0 + line, x0:x1],
                    np.s_[max(y0, y1 - line) : y1, x0:x1],
                    np.s_[y0:y1, x0 : x0 + line],
                    np.s_[y0:y1, max(x0, x1 - line) : x1],
                ):
                    out[part] = 255
        return out

    def downscaled(
        self, largest: int = 1600
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]]:
        """Image, map and boxes on one smaller grid, for a figure or a screen.

        Parameters
        ----------
        largest : int
            Longest side of the result, in pixels; a smaller image keeps its size.

        Returns
        -------
        image : uint8 (h, w)
        map : float32 (h, w)
            Scaled to 0..1 by the maximum of the raw map.
        boxes : float64 (n, 4)
            x0, y0, x1, y1 in pixels of the smaller image.

        Examples
        --------
        >>> from siamura import EmbeddingNet, Preprocess
        >>> from siamura.explanation import Similarity, explain
        >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=96))
        >>> image = np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8)
        >>> found = explain(net, image, Similarity(np.ones(8)), method="gradcam")
        >>> [part.shape for part in found.downscaled(60)[:2]]
        [(60, 40), (60, 40)]
        """
        image = shrunk(self.image, largest)
        down, across = (small / side for small, side in zip(image.shape, self.image.shape, strict=True))
        boxes = np.minimum(self.boxes * [across, down, across, down], [*image.shape[::-1]] * 2)
        return image, self.map_at(*image.shape), boxes

    @property
    def description(self) -> str:
        """Method, layers and cells of the map, in one sentence for the foot of a figure."""
        where = self.layer if len(self.layers) == 1 else f"{len(self.layers)} layers, multiplied"
        height, width = self.raw.shape
        return (
            f"{self.method} at {where}, {width} x {height} cells; boxes: {self.threshold:.0%} of the maximum."
        )
