"""Intervals by drawing patients again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def patient_draws(patients: int, draws: int, seed: int = 0) -> NDArray[np.float64]:
    """Draw patients with replacement, as many as there are, `draws` times.

    Parameters
    ----------
    patients, draws : int
    seed : int
        The same seed gives the same draws, so two models can be scored on the same ones.

    Returns
    -------
    ndarray of shape (draws, patients), float64
        How often each patient is in each draw; rows sum to `patients`.

    Examples
    --------
    >>> patient_draws(4, 3, seed=0).sum(axis=1)
    array([4., 4., 4.])
    """
    if draws < 1:
        raise ValueError(f"draws is {draws!r}; it must be at least 1")
    drawn = np.random.default_rng(seed).integers(patients, size=(draws, patients))
    flat = (drawn + patients * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * patients).reshape(draws, patients).astype(np.float64)


def interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws in which the score was defined.

    Parameters
    ----------
    values : ndarray of shape (draws,)
        NaN marks a degenerate draw.
    confidence : float
        In (0, 1).

    Returns
    -------
    low, high : float
        NaN where fewer than half of the draws were defined: too few to speak of an interval.

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap", 1993, section 13.3.

    Examples
    --------
    >>> low, high = interval(np.arange(101) / 100, confidence=0.9)
    >>> round(low, 2), round(high, 2)
    (0.05, 0.95)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it must be in (0, 1), 0.95 for 95 %")
    values = np.asarray(values, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
