"""What a trunk gives before any training: the first thing to measure on one's own radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from siamura.evaluation import frozen_baseline
from siamura.networks import EmbeddingNet
from siamura.pixels import Preprocess, RadiographDataset
from siamura.training.embedding import forward_rows
from siamura.training.head_first import FrozenTrunk

if TYPE_CHECKING:
    import pandas as pd

    from siamura.evaluation import FrozenBaseline
    from siamura.pixels.preprocessing import Fit

__all__ = ["probe"]


def probe(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    trunk: str,
    weights: str | Path | None,
    *,
    size: int = 224,
    fit: Fit = "letterbox",
    level: Literal["view", "study"] = "view",
    draws: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> FrozenBaseline:
    """Measure `frozen_baseline` on the pooled features of a trunk.

    Parameters
    ----------
    train, valid : DataFrame
        As from `siamura.train_valid`.
    trunk, weights
        As for `siamura.EmbeddingNet`; with ``weights=None`` the trunk is random.
    size : int
        Side of the network's square, in pixels.
    fit : {"letterbox", "squash", "center_crop"}
        How an image becomes that square.
    level, draws, seed
        As for `siamura.evaluation.frozen_baseline`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    FrozenBaseline

    Raises
    ------
    siamura.pixels.UnreadableImage
        If a file cannot be read.
    """
    pre = Preprocess(size=size, fit=fit)
    frozen = FrozenTrunk(EmbeddingNet(trunk, weights=weights, preprocess=pre)).eval()
    train_features, valid_features = (
        forward_rows(frozen, RadiographDataset(table, pre), progress=progress)[0].flatten(1).numpy()
        for table in (train, valid)
    )
    return frozen_baseline(train_features, train, valid_features, valid, level=level, draws=draws, seed=seed)
