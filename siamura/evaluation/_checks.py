"""Labels, probabilities and patients, checked once and in the same words."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_per_row


def as_probability(values: ArrayLike, count: int, name: str = "probability") -> NDArray[np.float64]:
    """Probabilities of the abnormal class, one a row, in [0, 1]; of both classes, (N, 2), the second.

    Raises
    ------
    ValueError
        Where the shape, a missing value or the range is wrong.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape == (count, 2):
        array = as_shares(array, count, name)[:, 1]
    if array.shape != (count,):
        raise ValueError(f"{name} has shape {array.shape}; it must hold one number a row, shape ({count},)")
    bad = ~(np.isfinite(array) & (array >= 0) & (array <= 1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{name} is {array[row]} at row {row}, one of {int(bad.sum())} outside [0, 1]; all must lie there"
        )
    return array


def as_shares(values: ArrayLike, count: int, name: str = "probability") -> NDArray[np.float64]:
    """Probabilities of every class, float64 (N, C), whose rows sum to 1.

    Raises
    ------
    ValueError
        Where the shape, the range or a sum is wrong.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) != count or array.shape[1] < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; it must hold one column a class, shape ({count}, classes)"
        )
    bad = ~(np.isfinite(array) & (array >= 0) & (array <= 1)).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{name} is {array[row].tolist()} at row {row}, one of {int(bad.sum())} outside [0, 1]; all must lie there"
        )
    sums = array.sum(axis=1)
    if (np.abs(sums - 1) > 1e-3).any():
        row = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"{name} sums to {sums[row]:.4g} at row {row}; the classes' probabilities must sum to 1"
        )
    return array


def as_label(values: ArrayLike, name: str = "label") -> NDArray[np.int64]:
    """Labels 0 and 1, one a row, at least one row.

    Raises
    ------
    ValueError
        Where there is none, or another value among them.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} has shape {array.shape}; it must hold at least one label, shape (N,)")
    odd = [value for value in pd.Series(array).unique().tolist() if value not in (0, 1)]
    if odd:
        raise ValueError(f"{name} holds {odd[0]!r}; labels must be 0 (normal) or 1 (abnormal)")
    return array.astype(np.int64)


def as_codes(values: ArrayLike, number: int, name: str = "label") -> NDArray[np.int64]:
    """Check labels: whole numbers from 0 to `number` - 1, at least one.

    Raises
    ------
    ValueError
        Where another value is among them.
    """
    codes = np.asarray(values)
    whole = codes.ndim == 1 and len(codes) > 0 and codes.dtype.kind in "iub"
    if not whole or codes.min() < 0 or codes.max() >= number:
        odd = f"{codes.dtype} of shape {codes.shape}"
        if whole:
            odd = repr(int(codes.min() if codes.min() < 0 else codes.max()))
        raise ValueError(
            f"{name} holds {odd}; labels must be codes from 0 to {number - 1}, one of {number} classes a row"
        )
    return codes.astype(np.int64)


def as_units(groups: ArrayLike | None, count: int, name: str = "groups") -> NDArray[np.int64]:
    """Codes 0 to U - 1 of the patients (or whatever is drawn as one), one a row; each row alone by default.

    Raises
    ------
    ValueError
        Where the length is wrong or a value is missing.
    """
    if groups is None:
        return np.arange(count)
    codes, _ = pd.factorize(check_per_row(name, groups, count))
    if (codes < 0).any():
        raise ValueError(f"{name} is missing at row {int(np.flatnonzero(codes < 0)[0])}; every row needs one")
    return np.asarray(codes, dtype=np.int64)
