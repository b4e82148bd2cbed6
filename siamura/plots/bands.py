"""A curve at every threshold, its band from `siamura.evaluation`, and its area with interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from siamura.evaluation import evaluate, pr_curve, roc_curve

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """A curve, its pointwise 95 % band on a grid of its own, and its area (value, low, high)."""

    x: Float
    y: Float
    grid: Float
    low: Float
    high: Float
    area: tuple[float, float, float]


def roc_band(frame: pd.DataFrame, *, draws: int, seed: int) -> Band:
    """ROC, and the band of the sensitivity at each false positive rate."""
    from sklearn.metrics import roc_curve as points  # here, as scikit-learn takes a second to load

    label, probability, group = _arrays(frame)
    banded = roc_curve(label, probability, groups=group, draws=draws, seed=seed)
    x, y, _ = points(label, probability, drop_intermediate=False)
    grid, low, high = (banded[name].to_numpy() for name in ("fpr", "low", "high"))
    return Band(x, y, grid, low, high, _area(banded, "auroc"))


def precision_recall_band(frame: pd.DataFrame, *, draws: int, seed: int) -> Band:
    """Precision at every recall, and its band."""
    # Here, as scikit-learn takes a second to load.
    from sklearn.metrics import precision_recall_curve as points

    label, probability, group = _arrays(frame)
    banded = pr_curve(label, probability, groups=group, draws=draws, seed=seed)
    precision, recall, _ = points(label, probability)
    grid, low, high = (banded[name].to_numpy() for name in ("recall", "low", "high"))
    area = _area(banded, "average_precision")
    # scikit-learn closes the curve at recall 0 with a precision of 1 that no threshold has.
    return Band(recall[-2::-1], precision[-2::-1], grid, low, high, area)


def _area(banded: pd.DataFrame, name: str) -> tuple[float, float, float]:
    return banded.attrs[name], banded.attrs[f"{name}_low"], banded.attrs[f"{name}_high"]


def score_with_interval(
    frame: pd.DataFrame, name: str, *, draws: int, seed: int, bins: int = 15
) -> tuple[float, float, float]:
    """Give one of `siamura.evaluate`'s scores, and its interval."""
    label, probability, group = _arrays(frame)
    table = pd.DataFrame({"label": label, "patient": group})
    scores = evaluate(table, probability, draws=draws, seed=seed, bins=bins)
    value, low, high = scores.loc[[name], ["value", "low", "high"]].to_numpy(np.float64)[0]
    return float(value), float(low), float(high)


def _arrays(frame: pd.DataFrame) -> tuple[NDArray[np.int64], Float, NDArray[np.int64]]:
    return (
        frame["label"].to_numpy(np.int64),
        frame["probability"].to_numpy(np.float64),
        frame["group"].to_numpy(np.int64),
    )
