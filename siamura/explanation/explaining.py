"""explain(): where in an image a score comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from .boxes import find_boxes
from .heat_map import Explanation
from .hooks import choose_layer, choose_layers, find_layer
from .inputs import as_input, bounded, known_preprocess, need_columns, read
from .maps import METHODS, activation_map, agreement, smooth_map
from .targets import HeadLogit, Target

if TYPE_CHECKING:
    import pandas as pd

    from siamura.pixels import Preprocess

__all__ = ["Explanation", "embed_image", "explain", "explain_views"]


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
        An `EmbeddingNet`, or anything that takes (B, 1, S, S) from 0 to 255 and holds a convolutional layer or a
        transformer's blocks. Its modes, flags and hooks come back as they were, whatever happens.
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
    elif plain == "cam" and getattr(getattr(model, "trunk", None), "output", "map") == "class_token":
        raise ValueError(
            "method='cam' needs a map that is averaged, and pool='cls' takes the class token; use gradcam."
        )
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


def explain_views(
    model: nn.Module,
    table: pd.DataFrame,
    target: Target | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> Iterator[Explanation]:
    """Explain the views of a table one after the other, so that one explanation at a time is in memory.

    Parameters
    ----------
    model : Module
    table : DataFrame
        With the column ``path``.
    target : callable, optional
    progress : bool
        Show a bar.
    **options
        For `explain`: head, method, layer, ...

    Yields
    ------
    Explanation
        One a row, in the table's order.

    Examples
    --------
    >>> import cv2, tempfile, pandas as pd
    >>> from siamura import EmbeddingNet, Preprocess
    >>> from siamura.explanation import Similarity
    >>> file = f"{tempfile.mkdtemp()}/hand.png"
    >>> _ = cv2.imwrite(file, np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8))
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> target = Similarity(np.ones(8))
    >>> maps = explain_views(net, pd.DataFrame({"path": [file, file]}), target, method="gradcam", progress=False)
    >>> [one.raw.ndim for one in maps]
    [2, 2]
    """
    need_columns(table, "table", ("path",))
    for path in tqdm(table["path"], total=len(table), desc="explain", disable=not progress):
        yield explain(model, path, target, **options)


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
    vector: NDArray[np.float32] = embed(model, preprocess(read(image))[None], progress=False)[0]
    return vector
