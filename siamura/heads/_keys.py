"""Patients as keys, and the header of a saved head: what both heads share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_count(value: Any, name: str) -> None:
    """Raise a ValueError where `value` is no integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1")


def as_keys(values: ArrayLike, count: int, name: str, *, like: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return strings or integers as a plain array that can be compared, sorted and saved without pickle.

    Raises
    ------
    ValueError
        Where the length is not `count`, a value is missing, or the kind differs from `like`.
    """
    keys = np.asarray(values)
    if keys.dtype.kind == "U" and not hasattr(values, "dtype"):  # of a list: NumPy writes NaN as "nan"
        keys = np.asarray(values, dtype=object)
    if keys.shape != (count,):
        raise ValueError(f"{name} has shape {keys.shape}; it must hold one value a row, shape ({count},)")
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


def positions(reference: NDArray[Any], query: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Integer codes of both arrays of keys, one code a key; -1 for a query's unknown key."""
    known, codes = np.unique(reference, return_inverse=True)
    at = np.minimum(np.searchsorted(known, query), len(known) - 1)
    return codes.astype(np.int64), np.where(known[at] == query, at, -1).astype(np.int64)


def own_counts(reference: NDArray[np.int64], query: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many reference rows share each query's key."""
    counts = np.append(np.bincount(reference), 0)
    return np.asarray(counts[query])


def read_header(folder: Path, head: str, newest: int) -> dict[str, Any]:
    """Read ``head.json``, checked to be of this class and of a known format.

    Raises
    ------
    FileNotFoundError
        Where the folder holds none.
    ValueError
        Where it cannot be read, or is of another class or a later format.
    """
    file = folder / "head.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no head.json; give the folder that {head}.save wrote")
    try:
        header: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} is no JSON ({error}); put it back from a copy, or save the head anew"
        ) from error
    if header.get("head") != head:
        raise ValueError(f"{file} holds a {header.get('head')}, not a {head}; load it with that class")
    if header.get("format", 0) > newest:
        raise ValueError(
            f"{file} has format {header['format']}, this siamura reads up to {newest}; update siamura"
        )
    return header
