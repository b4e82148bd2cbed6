"""What an intermediate layer gives for an image, and what an image shares with its similar cases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .explaining import embed_image, explain
from .heat_map import Explanation
from .hooks import capture_layer, frozen_eval
from .inputs import as_input, known_preprocess, read
from .targets import Similarity

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["feature_maps", "shared_maps"]


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
    with frozen_eval(model), capture_layer(model, layer) as seen, torch.no_grad():
        model(as_input(model, preprocess(read(image))))
        places = seen.as_map(seen.activation)
        assert places is not None
        return np.asarray(places[0].float().cpu().numpy())


def shared_maps(
    model: nn.Module,
    image: NDArray[np.uint8] | str | os.PathLike[str],
    cases: Sequence[NDArray[np.uint8] | str | os.PathLike[str]],
    *,
    preprocess: Preprocess | None = None,
    **options: Any,
) -> list[tuple[Explanation, Explanation]]:
    """Explain the similarity of an image and each of its similar cases, in both directions.

    Parameters
    ----------
    model : Module
    image : uint8 (H, W) or path
    cases : sequence of uint8 (H, W) or path
        The column ``path`` of what `CaseIndex.search` found for the image.
    preprocess : Preprocess, optional
        By default ``model.preprocess``.
    **options
        For `explain`.

    Returns
    -------
    list of (Explanation, Explanation)
        Over the case, what of it is like the image; over the image, what of it is like the case.

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess, plots
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> images = np.random.default_rng(0).integers(0, 256, (3, 90, 60), dtype=np.uint8)
    >>> pairs = shared_maps(net, images[0], images[1:], method="gradcam")
    >>> figure = plots.similar_cases(
    ...     images[0],
    ...     [case.downscaled(300)[0] for case, _ in pairs],
    ...     distances=[0.1, 0.2],
    ...     labels=[1, 0],
    ...     case_maps=[case.downscaled(300)[1] for case, _ in pairs],
    ...     image_maps=[query.downscaled(300)[1] for _, query in pairs],
    ... )
    """
    if not len(cases):
        raise ValueError("cases is empty; nothing was found that could be explained.")
    preprocess = known_preprocess(model, preprocess)
    query = read(image)
    like_image = Similarity(embed_image(model, query, preprocess=preprocess), "the image")
    pairs = []
    for case in cases:
        other = read(case)
        like_case = Similarity(embed_image(model, other, preprocess=preprocess), "the case")
        pairs.append(
            (
                explain(model, other, like_image, preprocess=preprocess, **options),
                explain(model, query, like_case, preprocess=preprocess, **options),
            )
        )
    return pairs
