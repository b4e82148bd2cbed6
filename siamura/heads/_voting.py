"""From the neighbours' votes to the share of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def shares(
    vote: NDArray[np.float64],
    codes: NDArray[np.int64],
    frequency: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return each class's share of the votes; `prior` where nobody votes.

    Parameters
    ----------
    vote : float64 (N, k)
        The weight of each neighbour's vote, 0 for none.
    codes : int64 (N, k)
        Each neighbour's class.
    frequency, prior : float64 (n_classes,)
        The class frequencies of the training rows, and those to answer for.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(frequency > 0, prior / frequency, 0.0)
    share = np.stack([np.where(codes == c, vote, 0.0).sum(axis=1) for c in range(len(frequency))], axis=1)
    share *= scale
    total = share.sum(axis=1, keepdims=True)
    return np.where(total > 0, share / np.where(total > 0, total, 1), prior)


def by_distance(distance: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return votes of 1 / distance; a row at distance 0 silences all others."""
    zero = there & (distance == 0)
    with np.errstate(divide="ignore"):
        vote = np.where(there, 1 / distance, 0.0)
    return np.where(zero.any(axis=1, keepdims=True), zero, vote)


def check_prior(prior: Any, frequency: NDArray[np.float64], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the class frequencies to answer for, summing to 1.

    Raises
    ------
    ValueError
        Where `prior` is neither None, "uniform", nor one number of at least 0 a class.
    """
    if prior is None:
        return frequency
    if isinstance(prior, str):
        if prior != "uniform":
            raise ValueError(f"prior is {prior!r}; it must be None, 'uniform' or one number a class")
        return np.full(len(frequency), 1 / len(frequency))
    wanted = np.asarray(prior, dtype=np.float64)
    if (
        wanted.shape != frequency.shape
        or not np.isfinite(wanted).all()
        or (wanted < 0).any()
        or not wanted.sum()
    ):
        raise ValueError(
            f"prior is {prior!r}; it must hold {len(frequency)} numbers of at least 0, one for "
            f"each of {classes.tolist()}"
        )
    return np.asarray(wanted / wanted.sum())
