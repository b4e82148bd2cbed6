"""Curves of every bootstrap draw over patients, and the band between their quantiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from siamura.evaluation import interval, patient_draws, score_draws

Float = NDArray[np.float64]
GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Band:
    """A curve, its pointwise 95 % band on `GRID`, and its area with interval."""

    x: Float
    y: Float
    low: Float
    high: Float
    area: tuple[float, float, float]


def roc_points(
    label: NDArray[np.int64], probability: Float, weight: Float | None = None
) -> tuple[Float, Float]:
    """Give false and true positive rates at every threshold, from none called abnormal to all."""
    caught, false = _cumulative(label, probability, weight)
    return false / false[-1], caught / caught[-1]


def precision_recall_points(
    label: NDArray[np.int64], probability: Float, weight: Float | None = None
) -> tuple[Float, Float]:
    """Recall and precision at every threshold, from the highest probability down."""
    caught, false = _cumulative(label, probability, weight)
    called = caught + false
    keep = called > 0
    return caught[keep] / caught[-1], caught[keep] / called[keep]


def roc_band(frame: pd.DataFrame, *, draws: int, seed: int) -> Band:
    """ROC with a band of the sensitivity at each false positive rate."""
    x, y = roc_points(frame["label"].to_numpy(), frame["probability"].to_numpy())

    def at_grid(weight: Float) -> Float:
        return np.interp(GRID, *_last(*roc_points(*_arrays(frame), weight)))

    return _band(frame, x, y, at_grid, "auroc", draws, seed)


def precision_recall_band(frame: pd.DataFrame, *, draws: int, seed: int) -> Band:
    """Precision at each recall: of the highest threshold that reaches that recall."""
    x, y = precision_recall_points(*_arrays(frame))

    def at_grid(weight: Float) -> Float:
        recall, precision = precision_recall_points(*_arrays(frame), weight)
        return precision[np.minimum(np.searchsorted(recall, GRID - 1e-9), len(recall) - 1)]

    return _band(frame, x, y, at_grid, "average_precision", draws, seed)


def _band(
    frame: pd.DataFrame, x: Float, y: Float, at_grid: object, score: str, draws: int, seed: int
) -> Band:
    label, probability = _arrays(frame)
    unit = frame["group"].to_numpy()
    area = float(score_draws(label, probability, groups=unit)[score][0])
    if not draws:
        nothing = np.full(len(GRID), np.nan)
        return Band(x, y, nothing, nothing, (area, float("nan"), float("nan")))
    counts = patient_draws(int(unit.max()) + 1, draws, seed)
    drawn = score_draws(label, probability, counts, groups=unit)[score]
    curves = np.full((draws, len(GRID)), np.nan)
    for row, weights in enumerate(counts):
        weight = weights[unit]
        if weight[label == 1].any() and weight[label == 0].any():
            curves[row] = at_grid(weight)  # type: ignore[operator]
    low, high = np.nanquantile(curves, [0.025, 0.975], axis=0)
    return Band(x, y, low, high, (area, *interval(drawn)))


def _arrays(frame: pd.DataFrame) -> tuple[NDArray[np.int64], Float]:
    return frame["label"].to_numpy(np.int64), frame["probability"].to_numpy(np.float64)


def _cumulative(label: NDArray[np.int64], probability: Float, weight: Float | None) -> tuple[Float, Float]:
    """Weight of abnormal and of normal rows at or above each distinct probability, 0 first."""
    order = np.argsort(-probability, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    w = np.ones(len(label)) if weight is None else weight
    abnormal = (w * label)[order].cumsum()[ends]
    every = w[order].cumsum()[ends]
    return np.append(0.0, abnormal), np.append(0.0, every - abnormal)


def _last(x: Float, y: Float) -> tuple[Float, Float]:
    """Of equal x the highest y: np.interp needs x increasing."""
    keep = np.append(np.diff(x) > 0, True)
    return x[keep], y[keep]
