"""One training with several seeds: what of a score is chance of the training, and what the seeds answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_whole

from ._scorers import Scorer, mean_of, paired_differences, scorer
from .intervals import bootstrap

__all__ = ["compare_seeds", "mean_probability", "seed_scores"]


def mean_probability(members: Mapping[Any, ArrayLike]) -> NDArray[np.float64]:
    """Average what several networks answer for the same rows: the ensemble.

    Parameters
    ----------
    members : mapping to array of shape (N,) or (N, C)
        Probabilities by seed.

    Returns
    -------
    ndarray of that shape, float64

    Raises
    ------
    ValueError
        Where there is none, or shapes differ.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep
    ensembles", NeurIPS 2017, section 2.4.

    Examples
    --------
    >>> mean_probability({0: [0.2, 0.8], 1: [0.4, 0.6]}).round(2).tolist()
    [0.3, 0.7]
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in _given(members).items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    (first, shape), *others = shapes.items()
    for name, other in others:
        if other != shape:
            raise ValueError(
                f"members[{name!r}] has shape {other}, members[{first!r}] {shape}; give the same rows and classes."
            )
    return np.asarray(np.mean(list(arrays.values()), axis=0))


def seed_scores(
    table: pd.DataFrame, members: Mapping[Any, ArrayLike], level: Literal["view", "study"] = "view", *,
    classes: Sequence[str] | None = None, ordered: bool | None = None, draws: int = 2000,
    confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Score each seed's answers, their mean, and how much the seeds differ.

    Parameters
    ----------
    table : DataFrame
        As for `siamura.evaluate`.
    members : mapping to array of shape (N,) or (N, C)
        Probabilities of the rows of `table`, by seed.
    level, classes, ordered, draws, confidence, seed
        As for `siamura.evaluate`; `seed` is that of the draws of patients.

    Returns
    -------
    DataFrame
        Index ``metric``; a column for each member, named as in `members`, then ``mean`` of the seeds' scores, its
        interval ``low, high`` over patients, ``sd`` (standard deviation over seeds, N - 1 in the denominator; NaN of
        one seed), and ``least`` and ``most`` of the seeds. ``.attrs`` hold level, rows, patients, draws, degenerate,
        confidence and seed.

    Notes
    -----
    The interval says what other patients would change while these networks stay; ``sd`` says what another seed
    would change on these patients. Neither holds the other.

    Examples
    --------
    >>> views = pd.DataFrame({"patient": list("abcdefgh"), "label": [0, 0, 0, 0, 1, 1, 1, 1]})
    >>> members = {0: [0.1, 0.2, 0.1, 0.3, 0.9, 0.8, 0.7, 0.6], 1: [0.6, 0.2, 0.7, 0.3, 0.4, 0.8, 0.3, 0.6]}
    >>> found = seed_scores(views, members, draws=200)
    >>> found.loc["accuracy", [0, 1, "mean", "least", "most"]].tolist()
    [1.0, 0.5, 0.75, 0.5, 1.0]
    """
    scorers = _scorers(table, members, level, classes, ordered)
    about = next(iter(scorers.values())).about(level)
    found = bootstrap(mean_of(list(scorers.values())), about["patients"], draws, confidence, seed)
    each = pd.DataFrame({name: one.plain() for name, one in scorers.items()})
    frame = each.assign(
        mean=pd.Series(found.value),
        low=pd.Series(found.low),
        high=pd.Series(found.high),
        sd=each.std(axis=1, ddof=1, skipna=False),
        least=each.min(axis=1, skipna=False),
        most=each.max(axis=1, skipna=False),
    )
    frame.index.name = "metric"
    drawn = {"draws": draws, "degenerate": found.degenerate, "confidence": confidence, "seed": seed}
    frame.attrs.update(about | drawn)
    return frame


def compare_seeds(
    table: pd.DataFrame, members: Mapping[Any, ArrayLike], baseline: ArrayLike,
    level: Literal["view", "study"] = "view", *, classes: Sequence[str] | None = None,
    ordered: bool | None = None, draws: int = 2000, confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare the mean of the seeds' scores with the score of a baseline, on the same draws of patients.

    Parameters
    ----------
    table, members
        As for `seed_scores`.
    baseline : array of shape (N,) or (N, C)
        Probabilities of the same rows.
    level, classes, ordered, draws, confidence, seed
        As for `seed_scores`.

    Returns
    -------
    DataFrame
        As from `compare`: ``first`` is the mean over seeds, ``second`` the baseline. For the ensemble in the mean's
        place, `compare` with `mean_probability`.

    Examples
    --------
    >>> views = pd.DataFrame({"patient": list("abcdefgh"), "label": [0, 0, 0, 0, 1, 1, 1, 1]})
    >>> members = {0: [0.1, 0.2, 0.1, 0.3, 0.9, 0.8, 0.7, 0.6], 1: [0.6, 0.2, 0.7, 0.3, 0.4, 0.8, 0.3, 0.6]}
    >>> float(compare_seeds(views, members, [0.5] * 8, draws=200).loc["accuracy", "difference"])
    0.25
    """
    check_whole("draws", draws)
    scorers = list(_scorers(table, members, level, classes, ordered).values())
    beside = scorer(table, baseline, level, classes=classes, ordered=ordered, name="baseline")
    if beside.classes != scorers[0].classes:
        raise ValueError(
            f"baseline has shape {np.shape(baseline)}; it must answer for the same classes as members."
        )
    return paired_differences(
        mean_of(scorers), beside.score, beside.about(level), draws=draws, confidence=confidence, seed=seed
    )


def _given(members: Mapping[Any, ArrayLike]) -> Mapping[Any, ArrayLike]:
    if not members:
        raise ValueError("members is empty; give the probabilities of at least one seed.")
    return members


def _scorers(
    table: pd.DataFrame,
    members: Mapping[Any, ArrayLike],
    level: Literal["view", "study"],
    classes: Sequence[str] | None,
    ordered: bool | None,
) -> dict[Any, Scorer]:
    mean_probability(members)  # which looks at the shapes
    return {
        name: scorer(table, p, level, classes=classes, ordered=ordered, name=f"members[{name!r}]")
        for name, p in members.items()
    }
