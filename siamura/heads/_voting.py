"""From the neighbours' votes to the share of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._base import plain


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

    Parameters
    ----------
    prior : None, "uniform", mapping of class to number, or array of shape (n_classes,)
    frequency : float64 (n_classes,)
        Of the training rows; what None stands for.
    classes : ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        Where `prior` is something else, leaves a class out, names an unknown one, or holds a number below 0, one
        that is not finite, or zeros alone.
    """
    if prior is None:
        return frequency
    names = classes.tolist()
    if isinstance(prior, str):
        if prior != "uniform":
            raise ValueError(
                f"prior={prior!r} is unknown; choose None, 'uniform', a mapping such as "
                f"{dict.fromkeys(names, round(1 / len(names), 3))}, or one number a class."
            )
        return np.full(len(frequency), 1 / len(frequency))
    if isinstance(prior, Mapping):
        given = {plain(key): value for key, value in prior.items()}
        if len(given) != len(names) or any(name not in given for name in names):
            raise ValueError(f"prior={prior!r} must name each class once; the classes are {names}.")
        values: Any = [given[name] for name in names]
    else:
        values = prior
    try:
        wanted = np.asarray(values if not isinstance(values, set | frozenset) else None, dtype=np.float64)
    except (TypeError, ValueError):
        wanted = np.empty(0)
    right = wanted.shape == frequency.shape and np.isfinite(wanted).all() and (wanted >= 0).all()
    if not right or not wanted.any():
        raise ValueError(
            f"prior={prior!r} must hold {len(frequency)} finite numbers of at least 0, not all of them 0, one "
            f"for each of the classes {names}."
        )
    wanted = wanted / wanted.max()  # so that no sum is beyond the largest number
    return np.asarray(wanted / wanted.sum())


def plain_prior(prior: Any) -> Any:
    """Give a prior as JSON can hold it; a mapping as a list of pairs, since JSON's keys are strings alone."""
    if prior is None or isinstance(prior, str):
        return prior
    if isinstance(prior, Mapping):
        return [[plain(key), float(value)] for key, value in prior.items()]
    return np.asarray(prior, dtype=float).tolist()
