"""Patients and classes as keys: what both heads share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_per_row


def as_keys(values: ArrayLike, count: int, name: str, *, like: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return strings or integers as a plain array that can be compared, sorted and saved without pickle.

    Raises
    ------
    ValueError
        Where the length is not `count`, a value is missing, or the kind differs from `like`.
    """
    keys = check_per_row(name, values, count)
    if keys.dtype.kind in "OT":
        kinds = {type(value) for value in keys}
        if kinds <= {str, np.str_}:
            keys = keys.astype(str)
        elif kinds <= {int, np.int64, np.int32} | {bool, np.bool_}:
            keys = keys.astype(np.int64)
        else:
            found = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"{name} holds {found}; it must hold strings alone or integers alone, none missing"
            )
    elif keys.dtype.kind == "f" and np.isnan(keys).any():
        raise ValueError(f"{name} holds a missing value at row {int(np.flatnonzero(np.isnan(keys))[0])}")
    if like is not None and (keys.dtype.kind == "U") != (like.dtype.kind == "U"):
        raise ValueError(
            f"{name} holds {'strings' if keys.dtype.kind == 'U' else 'numbers'}, "
            f"fit was given {'strings' if like.dtype.kind == 'U' else 'numbers'}; use the same kind in both"
        )
    return keys


def codes_of(known: NDArray[Any], keys: NDArray[Any]) -> NDArray[np.int64]:
    """Position of each key among the known ones, each of them once; -1 for an unknown key."""
    if not len(known):
        return np.full(len(keys), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    at = order[np.minimum(np.searchsorted(known, keys, sorter=order), len(known) - 1)]
    return np.where(known[at] == keys, at, -1).astype(np.int64)
