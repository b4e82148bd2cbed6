"""Curves with bands, as tables that a plot can draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_number, check_whole

from ._checks import as_label, as_probability, as_units
from .intervals import bootstrap, interval, patient_draws
from .metrics import score_draws

Float = NDArray[np.float64]


def roc_curve(
    label: ArrayLike, probability: ArrayLike, *, groups: ArrayLike | None = None, points: int = 201,
    draws: int = 1000, confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Sensitivity against 1 - specificity, with a band from a bootstrap over patients.

    Parameters
    ----------
    label : array of shape (N,), 0 or 1
        Both must occur.
    probability : array of shape (N,)
        Of the abnormal class, in [0, 1].
    groups : array of shape (N,), optional
        The patient of each row.
    points : int
        Equally spaced false positive rates from 0 to 1; at least 2.
    draws : int
        Bootstrap draws; 0 for no band.
    confidence, seed
        Of the band.

    Returns
    -------
    DataFrame
        ``fpr, tpr, low, high``: at each false positive rate the sensitivity, linearly between thresholds, and
        the pointwise band. ``.attrs``: ``auroc``, ``auroc_low``, ``auroc_high``, ``rows``, ``patients``,
        ``draws``, ``degenerate``.

    Examples
    --------
    >>> curve = roc_curve([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], points=3, draws=0)
    >>> curve[["fpr", "tpr"]].to_numpy().tolist(), curve.attrs["auroc"]
    ([[0.0, 0.5], [0.5, 1.0], [1.0, 1.0]], 0.75)
    """
    y, p, unit = _inputs(label, probability, groups)
    grid = _grid(points)

    def one(rows: Float, hits: Float) -> Float:
        caught, false = hits.cumsum(), (rows - hits).cumsum()
        if not caught[-1] or not false[-1]:
            return np.full(points, np.nan)
        x, height = np.append(0, false / false[-1]), np.append(0, caught / caught[-1])
        # Where the curve stands upright, its top counts: the best sensitivity at that rate.
        last = np.append(np.diff(x) != 0, True)
        return np.asarray(np.interp(grid, x[last], height[last]))

    frame = _banded("fpr", "tpr", grid, one, y, p, unit, draws, confidence, seed)
    frame.attrs.update(_area("auroc", y, p, unit, draws, confidence, seed))
    return frame


def pr_curve(
    label: ArrayLike, probability: ArrayLike, *, groups: ArrayLike | None = None, points: int = 201,
    draws: int = 1000, confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Precision against recall, with a band from a bootstrap over patients.

    Parameters
    ----------
    label, probability, groups, draws, confidence, seed
        As for `roc_curve`.
    points : int
        Equally spaced recalls from 0 to 1; at least 2.

    Returns
    -------
    DataFrame
        ``recall, precision, low, high``: the precision at the highest threshold that reaches the recall (no
        interpolation, which flatters). ``.attrs``: ``average_precision`` with its ``_low`` and ``_high``,
        ``prevalence``, ``rows``, ``patients``, ``draws``, ``degenerate``.

    Examples
    --------
    >>> curve = pr_curve([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], points=3, draws=0)
    >>> curve["precision"].round(3).tolist(), round(curve.attrs["average_precision"], 3)
    ([1.0, 1.0, 0.667], 0.833)
    """
    y, p, unit = _inputs(label, probability, groups)
    grid = _grid(points)

    def one(rows: Float, hits: Float) -> Float:
        caught, read = hits.cumsum(), rows.cumsum()
        if not caught[-1]:
            return np.full(points, np.nan)
        # The highest threshold with any abnormal row stands for recall 0; draws can leave thresholds empty.
        at = np.searchsorted(caught, np.maximum(grid * caught[-1] - 1e-9, 1e-9))
        return np.asarray(caught[at] / read[at])

    frame = _banded("recall", "precision", grid, one, y, p, unit, draws, confidence, seed)
    frame.attrs.update(_area("average_precision", y, p, unit, draws, confidence, seed))
    frame.attrs["prevalence"] = float(y.mean())
    return frame


def _grid(points: int) -> Float:
    return np.linspace(0, 1, check_whole("points", points, least=2))


def _area(
    name: str, y: NDArray[np.int64], p: Float, unit: NDArray[np.int64], draws: int, confidence: float,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Return the area of a curve, with its interval where there are draws."""
    found = bootstrap(
        lambda counts: score_draws(y, p, counts, groups=unit, only=(name,)),
        int(unit.max()) + 1,
        draws,
        confidence,
        seed,
    )
    return {name: found.value[name], f"{name}_low": found.low[name], f"{name}_high": found.high[name]}


def _inputs(
    label: ArrayLike, probability: ArrayLike, groups: ArrayLike | None
) -> tuple[NDArray[np.int64], Float, NDArray[np.int64]]:
    y = as_label(label)
    if y.min() == y.max():
        raise ValueError(f"label holds {y[0]} alone; a curve needs both labels")
    return y, as_probability(probability, len(y)), as_units(groups, len(y))


def _banded(
    x_name: str, y_name: str, grid: Float, one: Callable[[Float, Float], Float], y: NDArray[np.int64],
    p: Float, unit: NDArray[np.int64], draws: int, confidence: float, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Curve of the data and pointwise band of the draws; `one` makes a curve of counts by threshold."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(p[order]) != 0))
    who, abnormal = unit[order], y[order].astype(np.float64)

    def curve(counts: Float) -> Float:
        rows = counts[who]
        return one(np.add.reduceat(rows, starts), np.add.reduceat(rows * abnormal, starts))

    check_number("confidence", confidence, above=0, below=1)
    patients = int(unit.max()) + 1
    low = high = np.full(len(grid), np.nan)
    degenerate = 0
    if draws:
        made = np.stack([curve(counts) for counts in patient_draws(patients, draws, seed)])
        defined = ~np.isnan(made[:, 0])
        degenerate = int((~defined).sum())
        if 2 * degenerate <= draws:
            low, high = np.quantile(made[defined], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    frame = pd.DataFrame({x_name: grid, y_name: curve(np.ones(patients)), "low": low, "high": high})
    frame.attrs.update({"rows": len(y), "patients": patients, "draws": draws, "degenerate": degenerate})
    return frame


def reliability(
    label: ArrayLike, probability: ArrayLike, *, groups: ArrayLike | None = None, bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform", draws: int = 1000, confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """How often what was called p % abnormal is abnormal.

    Parameters
    ----------
    label, probability, groups, draws, confidence, seed
        As for `roc_curve`; one label alone will do.
    bins : int
        How many; each holds its upper edge.
    strategy : {"uniform", "quantile"}
        Equally wide bins, or bins with equally many rows (fewer where probabilities are tied).

    Returns
    -------
    DataFrame
        One row a bin that holds rows: ``left, right, rows, patients, probability`` (mean), ``frequency``
        (share abnormal), ``low, high`` (its interval). ``.attrs``: ``ece`` over these bins, ``brier``,
        ``patients``.

    Examples
    --------
    >>> reliability([0, 1, 1, 1], [0.2, 0.2, 0.9, 0.9], bins=2, draws=0)[["rows", "probability", "frequency"]]
       rows  probability  frequency
    0     2          0.2        0.5
    1     2          0.9        1.0
    """
    y = as_label(label)
    p = as_probability(probability, len(y))
    unit = as_units(groups, len(y))
    check_choice("strategy", strategy, ("uniform", "quantile"))
    check_whole("bins", bins)
    edges = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        edges = np.unique(np.concatenate([[0], np.quantile(p, edges[1:-1]), [1]]))
    at = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, len(edges) - 2)
    used, at = np.unique(at, return_inverse=True)
    patients = int(unit.max()) + 1
    rows, hits = np.zeros((patients, len(used))), np.zeros((patients, len(used)))
    np.add.at(rows, (unit, at), 1.0)
    np.add.at(hits, (unit, at), y.astype(np.float64))
    count = rows.sum(axis=0)
    mean = np.bincount(at, weights=p) / count
    frequency = hits.sum(axis=0) / count
    band = np.full((len(used), 2), np.nan)
    if draws:
        counts = patient_draws(patients, draws, seed)
        with np.errstate(invalid="ignore"):
            drawn = (counts @ hits) / (counts @ rows)
        band = np.array([interval(values, confidence) for values in drawn.T])
    frame = pd.DataFrame(
        {
            "left": edges[used],
            "right": edges[used + 1],
            "rows": count.astype(np.int64),
            "patients": (rows > 0).sum(axis=0),
            "probability": mean,
            "frequency": frequency,
            "low": band[:, 0],
            "high": band[:, 1],
        }
    )
    ece = float((count * np.abs(mean - frequency)).sum() / len(y))
    frame.attrs.update({"ece": ece, "brier": float(((p - y) ** 2).mean()), "patients": patients})
    return frame
