"""Two models on the same patients, and raters against each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from siamura._validation import check_number, check_whole

from ._checks import as_label, as_units
from ._scorers import paired_differences, scorer
from .intervals import bootstrap

Float = NDArray[np.float64]


def compare(
    table: pd.DataFrame, first: ArrayLike, second: ArrayLike, level: Literal["view", "study"] = "view",
    threshold: float | tuple[float, float] = 0.5, *,
    aggregate: Literal["mean", "max", "noisy-or", "top-k"] = "mean", top: int = 2, draws: int = 2000,
    confidence: float = 0.95, bins: int = 15, classes: Sequence[str] | None = None,
    ordered: bool | None = None, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Difference of two models in every score, on the same draws of patients.

    Parameters
    ----------
    table : DataFrame
        As for `siamura.evaluate`.
    first, second : array of shape (N,) or (N, C)
        The models' probabilities of the abnormal class, one a row; or of every class. With three classes or
        more `threshold` and `bins` play no part, and the scores are those of `class_draws`.
    level, aggregate, top, draws, confidence, bins, classes, ordered, seed
        As for `siamura.evaluate`.
    threshold : float or pair of floats
        One for both models, or one each.

    Returns
    -------
    DataFrame
        Index ``metric``; columns ``first, second, difference`` (first - second), its interval ``low, high``,
        and ``p``: twice the share of draws on the far side of zero. ``.attrs`` as for `siamura.evaluate`.

    Notes
    -----
    Both models meet the same patients in each draw, so what makes patients easy or hard for both cancels:
    the interval of the difference is narrower than two separate intervals suggest. ``p`` is not corrected for
    the number of scores looked at.

    Examples
    --------
    >>> views = pd.DataFrame({"patient": list("abcdefgh"), "label": [0, 0, 0, 0, 1, 1, 1, 1]})
    >>> good, poor = [0.1, 0.2, 0.1, 0.3, 0.9, 0.8, 0.7, 0.6], [0.6, 0.2, 0.7, 0.3, 0.4, 0.8, 0.3, 0.6]
    >>> float(compare(views, good, poor, draws=200).loc["accuracy", "difference"])
    0.5
    """
    check_whole("draws", draws)
    cuts = tuple(threshold) if isinstance(threshold, tuple | list) else (threshold, threshold)
    if len(cuts) != 2:
        raise ValueError(f"threshold is {threshold!r}; it must be one number, or two, one a model")
    shapes = [np.shape(first), np.shape(second)]
    many = [len(shape) == 2 and shape[1] != 2 for shape in shapes]
    if many[0] != many[1] or (many[0] and shapes[0] != shapes[1]):
        raise ValueError(
            f"first has shape {shapes[0]}, second {shapes[1]}; both must answer for the same classes"
        )
    one, two = (
        scorer(
            table, p, level, threshold=cut, aggregate=aggregate, top=top, bins=bins, classes=classes, ordered=ordered,
            name=name,
        )
        for p, cut, name in zip((first, second), cuts, ("first", "second"), strict=True)
    )  # fmt: skip
    return paired_differences(
        one.score, two.score, one.about(level), draws=draws, confidence=confidence, seed=seed
    )


def mcnemar(
    label: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None = None
) -> dict[str, float]:
    """Test whether two models err equally often on the same rows.

    Parameters
    ----------
    label, first, second : array of shape (N,), 0 or 1
        The truth and the two models' answers.
    groups : array of shape (N,), optional
        The patient of each row. Without, rows are taken as independent and the test is exact (binomial).
        With, each patient's surplus of one model's errors is one observation, and the test is asymptotic.

    Returns
    -------
    dict of str to float
        ``only_first`` and ``only_second`` (rows that only this model got right), ``statistic`` (z where there
        are groups, else the smaller of the two counts) and ``p``, two-sided.

    References
    ----------
    McNemar, 1947. Groups: Yang, Sun and Hardin, "A note on the tests for clustered matched-pair binary data",
    Biometrical Journal 52, 2010.

    Examples
    --------
    >>> result = mcnemar([1] * 6, [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1])
    >>> result["only_first"], result["only_second"], round(result["p"], 5)
    (5, 1, 0.21875)
    """
    y = as_label(label)
    answers = [as_label(values, name) for values, name in ((first, "first"), (second, "second"))]
    for values, name in zip(answers, ("first", "second"), strict=True):
        if len(values) != len(y):
            raise ValueError(f"{name} has {len(values)} rows, label has {len(y)}; give one answer a row")
    right = [values == y for values in answers]
    surplus = right[0].astype(np.int64) - right[1]
    ahead, behind = int((surplus > 0).sum()), int((surplus < 0).sum())
    if groups is None:
        p = float(stats.binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0
        statistic = float(min(ahead, behind))
    else:
        each = np.bincount(as_units(groups, len(y)), weights=surplus)
        spread = float(np.sqrt((each**2).sum()))
        statistic = float(each.sum() / spread) if spread else 0.0
        p = float(2 * stats.norm.sf(abs(statistic)))
    return {"only_first": ahead, "only_second": behind, "statistic": statistic, "p": p}


def delong(
    label: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
) -> dict[str, float]:
    """Compare two AUROCs on the same rows, without drawing.

    Parameters
    ----------
    label : array of shape (N,), 0 or 1
    first, second : array of shape (N,)
        Scores of two models; any scale, larger is more abnormal.
    groups : array of shape (N,), optional
        The patient of each row: Obuchowski's variance for clustered rows. Without, DeLong's.
    confidence : float
        Of the interval.

    Returns
    -------
    dict of str to float
        ``first, second`` (AUROCs), ``difference``, ``low, high``, ``error`` (standard error of the
        difference), ``error_first, error_second``, ``z`` and ``p`` (two-sided). Where one label is of one row
        or one patient alone, its variance is unknown: all but the AUROCs and their difference is NaN.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; Sun and Xu, IEEE Signal Processing Letters 21,
    2014 (by ranks); Obuchowski, Biometrics 53, 1997 (clusters).

    Examples
    --------
    >>> found = delong([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6], [1, 4, 2, 3, 5, 6])
    >>> round(found["first"], 4), round(found["second"], 4)
    (1.0, 0.8889)
    """
    check_number("confidence", confidence, above=0, below=1)
    y = as_label(label)
    if y.min() == y.max():
        raise ValueError(f"label holds {y[0]} alone; an AUROC needs both labels")
    unit = as_units(groups, len(y))
    scores = []
    for values, name in ((first, "first"), (second, "second")):
        array = np.asarray(values, dtype=np.float64)
        if array.shape != y.shape:
            raise ValueError(f"{name} has shape {array.shape}; it must hold one score a row, shape {y.shape}")
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array))[0])
            raise ValueError(f"{name} is {array[row]} at row {row}; every score must be finite")
        scores.append(array)
    area, covariance = _auroc_covariance(y, np.stack(scores), unit)
    difference = area[0] - area[1]
    # NumPy's maximum, since Python's would make 0 of an undefined variance.
    error = float(np.sqrt(np.maximum(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    # Models that rank alike have no variance of their difference; then there is nothing to tell apart.
    z = float(difference / error) if error != 0 else (0.0 if difference == 0 else float("inf"))
    return {
        "first": float(area[0]),
        "second": float(area[1]),
        "difference": float(difference),
        "low": float(difference - reach),
        "high": float(difference + reach),
        "error": error,
        "error_first": float(np.sqrt(covariance[0, 0])),
        "error_second": float(np.sqrt(covariance[1, 1])),
        "z": z,
        "p": float(2 * stats.norm.sf(abs(z))),
    }


def _auroc_covariance(y: NDArray[np.int64], scores: Float, unit: NDArray[np.int64]) -> tuple[Float, Float]:
    """AUROC of each row of `scores`, and their covariance; a cluster of one row gives DeLong's."""
    positive = y == 1
    m, n = int(positive.sum()), int((~positive).sum())
    units = int(unit.max()) + 1
    area = np.empty(len(scores))
    over, under = np.empty((len(scores), units)), np.empty((len(scores), units))
    for at, score in enumerate(scores):
        ranks = stats.rankdata(score)
        # Share of the other class that each row wins against, from mid-ranks among all and among its own.
        wins = np.empty(len(y))
        wins[positive] = (ranks[positive] - stats.rankdata(score[positive])) / n
        wins[~positive] = 1 - (ranks[~positive] - stats.rankdata(score[~positive])) / m
        area[at] = wins[positive].mean()
        centred = wins - area[at]
        over[at] = np.bincount(unit, weights=centred * positive, minlength=units)
        under[at] = np.bincount(unit, weights=centred * ~positive, minlength=units)
    with_positive = len(np.unique(unit[positive]))
    with_negative = len(np.unique(unit[~positive]))

    def factor(count: int) -> float:
        return count / (count - 1) if count > 1 else float("nan")

    cross = over @ under.T
    covariance = (
        factor(with_positive) * (over @ over.T) / m**2
        + factor(with_negative) * (under @ under.T) / n**2
        + factor(units) * (cross + cross.T) / (m * n)
    )
    return area, covariance


def pairwise_kappa(
    ratings: pd.DataFrame, *, groups: ArrayLike | None = None, draws: int = 2000, confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Cohen's kappa of each pair of raters, models among them.

    Parameters
    ----------
    ratings : DataFrame
        One column a rater, one row a study; any labels. A missing rating leaves its row out for that rater.
    groups : array of shape (N,), optional
        The patient of each row.
    draws, confidence, seed
        As for `siamura.evaluate`; ``draws=0`` for no interval.

    Returns
    -------
    DataFrame
        One row a pair: ``first, second, kappa, low, high, agreement`` (share of equal ratings), ``rows``.

    Examples
    --------
    >>> ratings = pd.DataFrame({"reader 1": [0, 1, 1, 0], "reader 2": [0, 1, 0, 0], "model": [0, 1, 1, 0]})
    >>> pairwise_kappa(ratings, draws=0)[["first", "second", "kappa"]]
          first    second  kappa
    0  reader 1  reader 2    0.5
    1  reader 1     model    1.0
    2  reader 2     model    0.5
    """
    if ratings.shape[1] < 2:
        raise ValueError(f"ratings has {ratings.shape[1]} column; a pair needs two raters")
    if not len(ratings):
        raise ValueError("ratings has no row; a kappa needs at least one study")
    if not ratings.columns.is_unique:
        twice = ratings.columns[ratings.columns.duplicated()][0]
        raise ValueError(f"ratings has the column {twice!r} twice; name each rater differently")
    unit = as_units(groups, len(ratings))
    units = int(unit.max()) + 1
    values = {rater: ratings[rater].to_numpy() for rater in ratings.columns}
    missing = {rater: ratings[rater].isna().to_numpy() for rater in ratings.columns}
    lines = []
    for one, two in combinations(ratings.columns, 2):
        rows = ~(missing[one] | missing[two])
        if not rows.any():
            raise ValueError(f"{one!r} and {two!r} rated no row in common; leave one of them out")
        codes, names = pd.factorize(np.concatenate([values[one][rows], values[two][rows]]))
        a, b = codes[: rows.sum()], codes[rows.sum() :]
        classes = len(names)
        cells = np.zeros((units, classes * classes))
        np.add.at(cells, (unit[rows], a * classes + b), 1.0)

        def kappa(counts: Float, cells: Float = cells, classes: int = classes) -> dict[str, Float]:
            return {"kappa": _kappa(counts @ cells, classes)}

        found = bootstrap(kappa, units, draws, confidence, seed)
        scored = found.value["kappa"], found.low["kappa"], found.high["kappa"]
        lines.append((one, two, *scored, float((a == b).mean()), int(rows.sum())))
    return pd.DataFrame(lines, columns=["first", "second", "kappa", "low", "high", "agreement", "rows"])


def _kappa(cells: Float, classes: int) -> Float:
    """Kappa of each row of flattened (classes, classes) tables of agreement."""
    square = cells.reshape(-1, classes, classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = square.sum(axis=(1, 2))
        agreed = np.einsum("dcc->d", square) / total
        chance = np.einsum("dc,dc->d", square.sum(axis=2), square.sum(axis=1)) / total**2
        return np.asarray((agreed - chance) / (1 - chance))
