"""Does a heat map show what the network learned? It must change when the weights are shuffled."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from .explaining import explain
from .heat_map import Explanation
from .targets import Target

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["randomised_weights"]


def randomised_weights(
    model: nn.Module,
    image: NDArray[np.uint8],
    target: Target | None = None,
    *,
    stages: Sequence[str] | None = None,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Shuffle the weights from the top down, and compare each map with the trained network's.

    A map that stays as it was shows the image, not what the network learned.

    Parameters
    ----------
    model : Module
        Left as it is; a copy is shuffled.
    image : uint8 (H, W)
    target : callable, optional
    stages : sequence of str, optional
        Modules by name, from the top down, each shuffled beside those before it. By default the last layer with
        weights, then the upper half of such layers, then all.
    seed : int
    preprocess, **options
        For `explain`.

    Returns
    -------
    DataFrame
        stage; correlation (Spearman's, of the maps' cells that lie on the image; 0 where a map is constant there); x, y
        (the warmest pixel's centre, missing for a map of zeros).

    References
    ----------
    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3.

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess
    >>> from siamura.explanation import Similarity
    >>> image = np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8)
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> stages = randomised_weights(net, image, Similarity(np.ones(8)), method="gradcam")
    >>> stages["stage"].tolist(), list(stages)
    (['last layer', 'upper half', 'all'], ['stage', 'correlation', 'x', 'y'])
    """
    from scipy.stats import spearmanr  # here, as it takes a second to load

    trained = explain(model, image, target, preprocess=preprocess, **options)
    options["layer"] = trained.layers  # the same places, whatever the copy would choose
    within = _within_image(trained)
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for stage, modules in _stages(shuffled, stages):
        with torch.no_grad():
            for module in modules:
                for weight in module.parameters(recurse=False):
                    order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                    weight.copy_(weight.flatten()[order].view_as(weight))
        other = explain(shuffled, image, target, preprocess=preprocess, **options)
        a, b = trained.raw[within], other.raw[within]
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        correlation = 0.0 if constant else float(spearmanr(a, b).statistic)
        x, y = other.peak or (np.nan, np.nan)
        found.append({"stage": stage, "correlation": correlation, "x": x, "y": y})
    return pd.DataFrame(found)


def _within_image(seen: Explanation) -> NDArray[np.bool_]:
    """Which cells of the raw map lie on the image: the padding of a letterbox is alike in any two maps."""
    h, w = seen.raw.shape
    u0, v0, u1, v1 = seen.geometry.target
    u = (np.arange(w) + 0.5) * seen.geometry.size / w
    v = (np.arange(h) + 0.5) * seen.geometry.size / h
    within: NDArray[np.bool_] = ((v >= v0) & (v < v1))[:, None] & ((u >= u0) & (u < u1))
    return within


def _stages(model: nn.Module, names: Sequence[str] | None) -> Iterator[tuple[str, list[nn.Module]]]:
    weighty = [
        (name, module)
        for name, module in model.named_modules()
        if next(iter(module.parameters(recurse=False)), None) is not None
    ][::-1]
    if names is None:
        half = max(1, len(weighty) // 2)
        yield "last layer", [weighty[0][1]]
        yield "upper half", [module for _, module in weighty[1:half]]
        yield "all", [module for _, module in weighty[half:]]
        return
    for name in names:
        modules = [module for other, module in weighty if other == name or other.startswith(f"{name}.")]
        if not modules:
            raise ValueError(f"stages names {name!r}, which holds no weights; see model.named_modules().")
        yield name, modules
