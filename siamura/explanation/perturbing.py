"""Does the score rest on what a heat map shows? Deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from .explaining import explain
from .heat_map import Explanation
from .hooks import frozen_eval
from .inputs import as_input, need_columns
from .targets import HeadLogit, Target

__all__ = ["faithfulness", "perturbation_curves"]


def perturbation_curves(
    model: nn.Module,
    seen: Explanation,
    target: Target,
    *,
    steps: int = 20,
    batch_size: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Delete pixels from the warmest to the coldest, and insert them in that order, and follow the score.

    The image is deleted into, and inserted into, a blurred copy of itself. A map that shows what the score rests
    on makes deletion fall early and insertion rise early. The same is done in two orders that know nothing: by
    distance from the middle, and by the map's own cells in random order, so of the same grain.

    Parameters
    ----------
    model : Module
    seen : Explanation
        Of this model and target.
    target : callable
    steps : int
    batch_size : int
    seed : int
        Of the random order.

    Returns
    -------
    DataFrame
        share (of the pixels), deletion, insertion, and both with ``centre_`` and with ``random_`` before: scores.

    References
    ----------
    Petsiuk, Das and Saenko, "RISE", BMVC 2018, section 4.2.

    Examples
    --------
    >>> from siamura import EmbeddingNet, Preprocess
    >>> from siamura.explanation import Similarity
    >>> image = np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8)
    >>> net, target = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64)), Similarity(np.ones(8))
    >>> curves = perturbation_curves(net, explain(net, image, target), target, steps=4)
    >>> curves["share"].tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> whole = [*curves.filter(like="deletion").iloc[0], *curves.filter(like="insertion").iloc[-1]]
    >>> bool(np.ptp(whole) < 1e-3)  # whatever the order, deletion begins with the whole image, insertion ends with it
    True
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1.")
    square = seen.square
    side = square.shape[0]
    (u0, v0, u1, v1) = seen.geometry.target
    content = np.zeros((side, side), dtype=bool)
    content[v0:v1, u0:u1] = True  # the padding holds nothing to delete, and stays dark in the blurred copy
    blurred = square.copy()
    blurred[v0:v1, u0:u1] = cv2.GaussianBlur(square[v0:v1, u0:u1], (0, 0), side / 10)
    cells = np.random.default_rng(seed).permutation(seen.raw.ravel()).reshape(seen.raw.shape)
    heat, shuffled = (cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) for m in (seen.raw, cells))
    grid = np.arange(side) + 0.5
    middle = -np.hypot(grid[None] - (u0 + u1) / 2, grid[:, None] - (v0 + v1) / 2)
    shares = np.linspace(0, 1, steps + 1)
    out = {"share": shares}
    for name, order in (("", heat), ("centre_", middle), ("random_", shuffled)):
        ranks = np.full((side, side), np.inf)
        # Ties (a map's zeros) go by distance from the middle, not by the order of the rows.
        ranks[content] = np.lexsort((-middle[content], -order[content])).argsort() / content.sum()
        deleted = [np.where(ranks < share, blurred, square) for share in shares]
        inserted = [np.where(ranks < share, square, blurred) for share in shares]
        scores = _scores(model, [*deleted, *inserted], target, batch_size)
        out[f"{name}deletion"], out[f"{name}insertion"] = scores[: steps + 1], scores[steps + 1 :]
    return pd.DataFrame(out)


def faithfulness(
    model: nn.Module,
    table: pd.DataFrame,
    target: Target | None = None,
    *,
    steps: int = 20,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Areas under the deletion and insertion curves of each view, beside two orders that know nothing.

    Each curve is scaled so that the whole image is 1 and the blurred one 0; views where the blurred image scores
    no lower are left out.

    Parameters
    ----------
    model : Module
    table : DataFrame
        path, patient.
    target : callable, optional
        By default the log-odds of ``head=``.
    steps, progress
    **options
        For `explain`.

    Returns
    -------
    DataFrame
        path, patient, deletion (low is good), insertion (high is good), and both from the middle outwards
        (``centre_``) and in random order (``random_``). Hand it to `summary`.

    Examples
    --------
    >>> import cv2, tempfile, pandas as pd
    >>> from siamura import EmbeddingNet, Preprocess
    >>> from siamura.explanation import Similarity
    >>> file = f"{tempfile.mkdtemp()}/hand.png"
    >>> _ = cv2.imwrite(file, np.random.default_rng(0).integers(0, 256, (120, 80), dtype=np.uint8))
    >>> table = pd.DataFrame({"path": [file], "patient": ["p1"]})
    >>> net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    >>> views = faithfulness(net, table, Similarity(np.ones(8)), steps=4, progress=False)
    >>> [name for name in views if name.endswith("insertion")]
    ['insertion', 'centre_insertion', 'random_insertion']
    """
    need_columns(table, "table", ("path", "patient"))
    names = [f"{order}{curve}" for order in ("", "centre_", "random_") for curve in ("deletion", "insertion")]
    head = options.get("head")
    score = target if target is not None or head is None else HeadLogit(head)
    found = []
    for number, row in enumerate(
        tqdm(table.itertuples(), total=len(table), desc="delete and insert", disable=not progress)
    ):
        seen = explain(model, row.path, target, **options)
        assert score is not None  # explain refuses where there is neither target nor head
        curves = perturbation_curves(model, seen, score, steps=steps, seed=number)
        whole, nothing = curves["deletion"].iloc[0], curves["deletion"].iloc[-1]
        if whole > nothing:
            scaled = (curves[names] - nothing) / (whole - nothing)
            areas = np.trapezoid(scaled.to_numpy(), curves["share"].to_numpy(), axis=0)
            found.append({"path": row.path, "patient": row.patient, **dict(zip(names, areas, strict=True))})
    return pd.DataFrame(found, columns=["path", "patient", *names])


def _scores(
    model: nn.Module, squares: Sequence[NDArray[np.uint8]], target: Target, batch_size: int
) -> NDArray[np.float64]:
    found = []
    with frozen_eval(model), torch.no_grad():
        for low in range(0, len(squares), batch_size):
            batch = torch.cat([as_input(model, square) for square in squares[low : low + batch_size]])
            found.append(target(model(batch)).double().cpu().numpy())
    return np.concatenate(found)
