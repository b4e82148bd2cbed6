"""Every score at once, for many bootstrap draws at once.

A draw is a vector of counts, how often each patient was drawn. What depends on thresholded answers, and the
Brier and calibration errors, are sums over rows: summed once a patient, all draws are one matrix product.
What depends on the order of the scores (AUROC, average precision) needs one sort for all draws, and then
cumulative sums of the counts.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_number, check_whole

from ._checks import as_label, as_probability, as_units

# In the order in which tables show them. "precision", "recall", "f1" are those of the abnormal class.
METRICS = (
    "accuracy",
    "error",
    "kappa",
    "precision",
    "recall",
    "specificity",
    "f1",
    "precision_normal",
    "recall_normal",
    "f1_normal",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "auroc",
    "average_precision",
    "brier",
    "ece",
)
_AREAS = ("auroc", "average_precision")
BLOCK = 128  # draws whose cumulative sums are held at once: 3 MB at 3,197 rows

Float = NDArray[np.float64]


def score_draws(
    label: ArrayLike,
    probability: ArrayLike,
    counts: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    threshold: float = 0.5,
    bins: int = 15,
    only: Collection[str] = METRICS,
) -> dict[str, Float]:
    """Score every draw.

    Parameters
    ----------
    label : array of shape (N,), 0 or 1
    probability : array of shape (N,)
        Of the abnormal class, in [0, 1]; above `threshold` is answered "abnormal".
    counts : array of shape (draws, patients), optional
        How often each patient is in each draw, patients in order of their first row. Default: one draw that
        holds everybody once, which is the plain score.
    groups : array of shape (N,), optional
        The patient of each row. Default: every row is one.
    threshold : float
        Where "abnormal" begins, itself excluded.
    bins : int
        Equally wide bins of the expected calibration error, each with its upper edge.
    only : collection of str
        The scores to compute, of ``METRICS``; the areas need a sort, the others none.

    Returns
    -------
    dict of str to ndarray of shape (draws,)
        One entry for each name in `only`, in the order of ``METRICS``; NaN where a draw leaves the score
        undefined (no abnormal row for the recall, no answer "abnormal" for the precision, one class for AUROC
        and kappa).

    References
    ----------
    Cohen, "A coefficient of agreement for nominal scales", 1960 (kappa). Guo et al., "On calibration of
    modern neural networks", ICML 2017, equation 3 (expected calibration error).

    Examples
    --------
    >>> scores = score_draws([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9])
    >>> float(scores["accuracy"][0]), float(scores["kappa"][0]), float(scores["auroc"][0])
    (0.75, 0.5, 1.0)
    """
    y = as_label(label)
    p = as_probability(probability, len(y))
    unit = as_units(groups, len(y))
    check_number("threshold", threshold)
    check_whole("bins", bins)
    units = int(unit.max()) + 1
    weight = np.ones((1, units)) if counts is None else np.asarray(counts, dtype=np.float64)
    if weight.ndim != 2 or weight.shape[1] != units:
        raise ValueError(
            f"counts has shape {weight.shape}; it must be (draws, {units}), one column a patient"
        )
    if unknown := sorted(set(only) - set(METRICS)):
        raise ValueError(f"only holds {unknown[0]!r}; the scores are {', '.join(METRICS)}")
    found: dict[str, Float] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        if set(only) - set(_AREAS):
            found |= _summed(y, p, unit, weight, threshold, bins if "ece" in only else 0)
        if set(only) & set(_AREAS):
            found |= dict(zip(_AREAS, ranked_draws(y, p, unit, weight), strict=True))
    return {name: found[name] for name in METRICS if name in only}


def _summed(
    y: NDArray[np.int64], p: Float, unit: NDArray[np.int64], weight: Float, threshold: float, bins: int
) -> dict[str, Float]:
    """Score what is a function of sums over rows."""
    said = p > threshold
    units = weight.shape[1]
    sums = np.zeros((units, 5 + bins))
    cell = 2 * y + said
    np.add.at(sums, (unit, cell), 1.0)
    np.add.at(sums, (unit, np.full(len(y), 4)), (p - y) ** 2)
    if bins:
        np.add.at(sums, (unit, 5 + _in_bin(p, bins)), p - y)
    total = weight @ sums
    tn, fp, fn, tp = total[:, :4].T
    n = tn + fp + fn + tp
    abnormal, normal = tp + fn, tn + fp
    said_abnormal, said_normal = tp + fp, tn + fn

    accuracy = (tp + tn) / n
    chance = (abnormal * said_abnormal + normal * said_normal) / n**2
    precision, precision_normal = tp / said_abnormal, tn / said_normal
    recall, specificity = tp / abnormal, tn / normal
    f1, f1_normal = 2 * tp / (2 * tp + fp + fn), 2 * tn / (2 * tn + fp + fn)

    def weighted(of_abnormal: Float, of_normal: Float) -> Float:
        # A class that is not there has no weight, though its score is undefined.
        share = np.where(abnormal > 0, abnormal * of_abnormal, 0) + np.where(
            normal > 0, normal * of_normal, 0
        )
        return np.asarray(share / n)

    return {
        "accuracy": accuracy,
        "error": (fp + fn) / n,
        "kappa": (accuracy - chance) / (1 - chance),
        "precision": precision,
        "recall": recall,
        "specificity": specificity,
        "f1": f1,
        "precision_normal": precision_normal,
        "recall_normal": specificity,
        "f1_normal": f1_normal,
        "precision_macro": (precision + precision_normal) / 2,
        "recall_macro": (recall + specificity) / 2,
        "f1_macro": (f1 + f1_normal) / 2,
        "precision_weighted": weighted(precision, precision_normal),
        "recall_weighted": accuracy,
        "f1_weighted": weighted(f1, f1_normal),
        "brier": total[:, 4] / n,
        "ece": np.abs(total[:, 5:]).sum(axis=1) / n,
    }


def _in_bin(p: Float, bins: int) -> NDArray[np.int64]:
    """Bin of each probability: equally wide, each with its upper edge."""
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), p, side="left") - 1, 0, bins - 1)


def calibration_draws(
    y: NDArray[np.int64], p: Float, unit: NDArray[np.int64], weight: Float, bins: int
) -> Float:
    """Of every draw (D, bins): by how much each bin's probabilities are too high; their absolute sum is the ECE."""
    sums = np.zeros((weight.shape[1], bins + 1))
    np.add.at(sums, (unit, _in_bin(p, bins)), p - y)
    np.add.at(sums, (unit, np.full(len(y), bins)), 1.0)
    total = weight @ sums
    return np.asarray(total[:, :bins] / total[:, bins:])


def ranked_draws(
    y: NDArray[np.int64], p: Float, unit: NDArray[np.int64], weight: Float
) -> tuple[Float, Float]:
    """Return AUROC (a tie counts one half) and average precision of every draw."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(p[order]) != 0))
    tied = len(starts) < len(order)
    who, abnormal = unit[order], y[order].astype(np.float64)
    auroc, average = np.empty(len(weight)), np.empty(len(weight))
    for first in range(0, len(weight), BLOCK):
        part = slice(first, first + BLOCK)
        rows = weight[part][:, who]
        hits = rows * abnormal
        if tied:
            rows, hits = np.add.reduceat(rows, starts, axis=1), np.add.reduceat(hits, starts, axis=1)
        read, caught = rows.cumsum(axis=1), hits.cumsum(axis=1)
        positives = caught[:, -1]
        negatives = read[:, -1] - positives
        # A normal row loses to every abnormal one above it, and half to one beside it.
        beaten = np.einsum("du,du->d", rows - hits, caught - hits / 2)
        auroc[part] = beaten / (positives * negatives)
        average[part] = np.einsum("du,du->d", hits, caught / np.where(read > 0, read, 1)) / positives
    return auroc, average
