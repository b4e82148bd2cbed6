"""explain(): where in an image a score comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .boxes import find_boxes
from .maps import METHODS, activation_map, agreement, smooth_map
from .targets import HeadLogit, Target
from .watching import choose_layer, choose_layers, find_layer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from siamura.pixels import Geometry, Preprocess

__all__ = ["Explanation", "embed_image", "explain"]

STRIP = 256  # rows of an overlay that are computed at once
DRAWN = 1600  # pixels of a film's longest side in a figure


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
    >>> from siamura import read_mura
    >>> from siamura.experiments import load_run
    >>> run, films = load_run("runs/first"), read_mura("phantoms")["path"]
    >>> seen = explain(run.network(), films[0], head=run.heads()["mlp"])
    >>> seen.target, seen.method, len(seen.layers)
    ('log-odds of label 1', 'layercam', 4)
    >>> seen.heat.shape == seen.image.shape
    True
    >>> seen.figure("A phantom").savefig("runs/film.png")
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
        if not heat.max() > 0:
            return None
        # A plateau's middle, not its first corner.
        y, x = np.nonzero(heat >= heat.max() * (1 - 1e-6))
        nearest = np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2)
        down, across = self.image.shape[0] / heat.shape[0], self.image.shape[1] / heat.shape[1]
        return float(x[nearest] + 0.5) * across, float(y[nearest] + 0.5) * down

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
        from matplotlib import colormaps

        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} must be from 0 to 1.")
        film = self.image if largest is None else shrunk(self.image, largest)
        height, width = film.shape
        table = np.float32(255) * colormaps[colours](np.arange(256))[:, :3].astype(np.float32)
        out = np.empty((height, width, 3), np.uint8)
        for top in range(
            0, height, STRIP
        ):  # strips: floats of the whole would take gigabytes of a large film
            rows = slice(top, min(top + STRIP, height))
            heat = np.clip(self.map_at(*film.shape, rows=rows), 0, 1)
            share = (np.float32(alpha) * np.sqrt(heat))[..., None]
            colour = table[np.minimum(heat * 256, 255).astype(np.uint8)]
            out[rows] = np.rint((1 - share) * film[rows, :, None] + share * colour)
        if boxes:
            line = max(1, round(min(film.shape) / 100))
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

    def figure(self, title: str | None = None) -> Figure:
        """Draw the image, the map over it, and what was mapped.

        Parameters
        ----------
        title : str, optional
            What the image is; say so of a phantom.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        height, width = self.image.shape
        across = float(np.clip(4 * width / height, 1.8, 6))  # inches, for films 4 inches high
        figure = Figure(figsize=(2 * across + 1.2, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        place = (-0.5, width - 0.5, height - 0.5, -0.5)  # the axes count the original's pixels
        left.imshow(shrunk(self.image, DRAWN), cmap="gray", vmin=0, vmax=255, extent=place)
        for x0, y0, x1, y1 in self.boxes:
            # Pixel i is drawn from i - 0.5 to i + 0.5.
            box = Rectangle(
                (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="#ffb000", linewidth=1.5
            )
            left.add_patch(box)
        left.set_title(f"box: {self.threshold:.0%} of the maximum", fontsize=9)
        shown = right.imshow(
            self.overlay(boxes=False, largest=DRAWN), cmap="turbo", vmin=0, vmax=1, extent=place
        )
        right.set_title(f"{self.target}: {self.score:.2f}", fontsize=9)
        figure.colorbar(shown, ax=right, shrink=0.8, label="share of the maximum")
        for axes in (left, right):
            axes.set_axis_off()
        figure.suptitle(title or "Where the score comes from", fontsize=11)
        where = self.layer if len(self.layers) == 1 else f"{len(self.layers)} layers, multiplied"
        figure.supxlabel(
            f"{self.method} at {where}, {self.raw.shape[1]} x {self.raw.shape[0]} cells", fontsize=8
        )
        return figure


def explain(
    model: nn.Module,
    image: NDArray[np.uint8] | str | os.PathLike[str],
    target: Target | None = None,
    *,
    head: Any = None,
    method: str = "layercam",
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    preprocess: Preprocess | None = None,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    batch_size: int = 16,
    threshold: float = 0.2,
    min_area: float | None = None,
) -> Explanation:
    """Show where in an image a score comes from.

    Parameters
    ----------
    model : Module
        An `EmbeddingNet`, or anything that takes (B, 1, S, S) from 0 to 255 and holds a convolutional layer. Its
        modes, flags and hooks come back as they were, whatever happens.
    image : uint8 (H, W) or path
        The original, of any size.
    target : callable, optional
        Outputs (B, dim) to scores (B,): one of this module's, or any function. By default `head`'s log-odds of
        abnormal.
    head : MLPHead, optional
        Fitted on the model's embeddings.
    method : {"layercam", "gradcam", "smooth_layercam", "smooth_gradcam", "gradcam++", "cam"}
        A name that begins with ``smooth_`` averages the maps of `samples` noisy copies. LayerCAM is Grad-CAM with
        a weight for each cell instead of one for each channel, which makes it worth asking early and fine layers.
    layer : str, Module or a sequence of them, optional
        Where to look; the maps of several layers are multiplied (`agreement`). By default, for LayerCAM one layer
        for every halving of the image from a quarter of its side (`choose_layers`), for Grad-CAM and Grad-CAM++ the
        deepest layer with at least 6 x 6 cells (`choose_layer`), and for "cam" the model's ``trunk``.
    preprocess : Preprocess, optional
        By default ``model.preprocess``.
    samples, noise, seed, batch_size
        Of the noisy copies, see `smooth_map`.
    threshold, min_area : float
        Of the boxes, see `find_boxes`.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        If there is neither target nor head, no preprocessing, or no such method or layer.

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess
    >>> from siamura.explanation import Similarity
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=96))
    >>> image = np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8)
    >>> seen = explain(net, image, Similarity(np.ones(8)), method="gradcam")
    >>> seen.heat.shape, seen.overlay().shape
    ((120, 80), (120, 80, 3))
    """
    if target is None:
        if head is None:
            raise ValueError(
                "target is missing: give head= (a fitted MLPHead), or a target of siamura.explanation."
            )
        target = HeadLogit(head)
    elif head is not None:
        raise ValueError("target and head are both given; HeadLogit(head) is the head's target.")
    preprocess = known_preprocess(model, preprocess)
    smooth = method.startswith("smooth_")
    plain = method.removeprefix("smooth_")
    if plain not in METHODS or (smooth and plain == "cam"):
        known = ["smooth_gradcam", "smooth_gradcam++", "smooth_layercam", *METHODS]
        raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(known)}.")
    image = read(image)
    square, geometry = preprocess.apply(image)
    x = as_input(model, square)
    layers: Sequence[str | nn.Module]
    if layer is not None:
        layers = [layer] if isinstance(layer, (str, nn.Module)) else layer
    elif plain == "cam" and hasattr(model, "trunk"):
        layers = ["trunk"]
    else:
        layers = choose_layers(model, x) if plain == "layercam" else [choose_layer(model, x)]
    if not layers:
        raise ValueError("layer is empty; name at least one layer, or none for the default.")
    maps = []
    for one in layers:
        found, scores = activation_map(model, x, target, one, plain)
        if smooth:
            maps.append(
                smooth_map(
                    model,
                    x,
                    target,
                    one,
                    plain,
                    samples=samples,
                    noise=noise,
                    seed=seed,
                    batch_size=batch_size,
                )
            )
        else:
            maps.append(found[0])
    raw = agreement(maps)
    values = raw.cpu().numpy().astype(np.float32)
    height, width = image.shape
    size = bounded(image.shape)
    heat = geometry.map_to_original(values, size)
    boxes = find_boxes(heat, threshold, maximum=float(values.max()), min_area=min_area)
    if size != image.shape:  # outwards to whole pixels of the original
        scale = np.array([width / size[1], height / size[0]] * 2)
        outward = np.concatenate(
            [np.floor(boxes[:, :2] * scale[:2]), np.ceil(boxes[:, 2:] * scale[2:])], axis=1
        )
        boxes = np.minimum(outward, [width, height] * 2).astype(np.int64)
    return Explanation(
        image=image,
        raw=values,
        boxes=boxes,
        score=float(scores[0]),
        target=str(getattr(target, "__name__", target)),
        method=method,
        layers=tuple(find_layer(model, one)[0] for one in layers),
        threshold=threshold,
        square=square,
        geometry=geometry,
    )


def embed_image(
    model: nn.Module,
    image: NDArray[np.uint8] | str | os.PathLike[str],
    *,
    preprocess: Preprocess | None = None,
) -> NDArray[np.float32]:
    """Embed one image: for a `Similarity`, or a `CaseIndex`.

    The vector is the one, to the bit, that `siamura.embed` gives for the image in a data set.

    Parameters
    ----------
    model : Module
        Its modes come back as they were.
    image : uint8 (H, W) or path
    preprocess : Preprocess, optional
        By default ``model.preprocess``.

    Returns
    -------
    float32 (dim,)

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> embed_image(net, np.zeros((90, 60), np.uint8)).shape
    (8,)
    """
    from siamura.training import embed  # Lightning takes seconds to import

    preprocess = known_preprocess(model, preprocess)
    return embed(model, preprocess(read(image))[None], progress=False)[0]


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
    from siamura.pixels.geometry import resized  # OpenCV

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
        from siamura.pixels import read_image

        return read_image(image)
    return image


def as_input(model: nn.Module, square: NDArray[np.uint8]) -> torch.Tensor:
    """One preprocessed image as the model takes it: float (1, 1, S, S), from 0 to 255, on the model's device."""
    weight = next(model.parameters(), None)
    device = "cpu" if weight is None else weight.device
    return torch.from_numpy(np.ascontiguousarray(square))[None, None].float().to(device)
