"""Checks of arguments, and the one wording of their errors: the argument, its value, what would be right.

``losses/`` and ``samplers/`` can be used alone and keep their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "check_choice",
    "check_columns",
    "check_filled",
    "check_flag",
    "check_names",
    "check_number",
    "check_per_row",
    "check_positions",
    "check_vectors",
    "check_whole",
]


def check_whole(name: str, value: Any, *, least: int | None = 1, most: int | None = None) -> int:
    """Return a whole number as an `int`.

    Parameters
    ----------
    name : str
        The argument's name.
    value : int
        Its value; NumPy's integers count, booleans and 3.0 do not.
    least, most : int, optional
        Its bounds, both included.

    Raises
    ------
    ValueError
        If it is no whole number, or out of its bounds.

    Examples
    --------
    >>> check_whole("k", 15)
    15
    >>> check_whole("k", 0)
    Traceback (most recent call last):
    ValueError: k=0 must be a whole number of at least 1.
    """
    right = isinstance(value, Integral) and not isinstance(value, bool)
    if right and (least is None or value >= least) and (most is None or value <= most):
        return int(value)
    raise ValueError(f"{name}={value!r} must be a whole number{_bounds(least, most)}.")


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite number as a `float`.

    Parameters
    ----------
    name : str
        The argument's name.
    value : float
        Its value; NumPy's numbers count, booleans do not.
    least, most : float, optional
        Its bounds, both included.
    above, below : float, optional
        Its bounds, both excluded.

    Raises
    ------
    ValueError
        If it is no finite number, or out of its bounds.

    Examples
    --------
    >>> check_number("confidence", 0.95, above=0, below=1)
    0.95
    >>> check_number("margin", float("nan"), above=0)
    Traceback (most recent call last):
    ValueError: margin=nan must be a finite number above 0.
    """
    truth = isinstance(value, (bool, np.bool_))
    number = float(value) if isinstance(value, Real) and not truth else math.nan
    if (
        math.isfinite(number)
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    ):
        return number
    raise ValueError(f"{name}={value!r} must be a finite number{_bounds(least, most, above, below)}.")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of the choices.

    Raises
    ------
    ValueError
        If it is not, with all that it may be.

    Examples
    --------
    >>> check_choice("level", "study", ("view", "study"))
    'study'
    >>> check_choice("level", "patient", ("view", "study"))
    Traceback (most recent call last):
    ValueError: level='patient' is unknown; choose one of view, study.
    """
    allowed = tuple(choices)
    if isinstance(value, str) and value in allowed:
        return value
    raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(allowed)}.")


def check_flag(name: str, value: Any) -> bool:
    """Return a truth value as a `bool`; a text such as "no" would count as true.

    Raises
    ------
    ValueError
        If it is neither True nor False.

    Examples
    --------
    >>> check_flag("early_stopping", "no")
    Traceback (most recent call last):
    ValueError: early_stopping='no' must be True or False.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ValueError(f"{name}={value!r} must be True or False.")


def check_columns(table: Any, columns: Iterable[str], name: str = "table") -> pd.DataFrame:
    """Return a table that has the columns.

    Raises
    ------
    ValueError
        If it is no DataFrame, or lacks a column; the message names those that it has.
    """
    import pandas as pd  # here, as networks are checked without tables

    if not isinstance(table, pd.DataFrame):
        raise ValueError(
            f"{name} is a {type(table).__name__}; give a DataFrame, such as read_studies returns."
        )
    if absent := [column for column in columns if column not in table]:
        raise ValueError(
            f"{name} has no column {', '.join(map(repr, absent))}; its columns are "
            f"{', '.join(map(str, table.columns))}."
        )
    return table


def check_filled(table: pd.DataFrame, columns: Iterable[str], name: str = "table") -> None:
    """Refuse missing values: grouping would leave their rows out, or make one person of many.

    Raises
    ------
    ValueError
        If a value is missing, with its row and the number of such rows.
    """
    for column in columns:
        empty = table[column].isna().to_numpy()
        if empty.any():
            raise ValueError(
                f"{name}[{column!r}] is missing in row {int(empty.argmax())}, one of {int(empty.sum())}; fill it, "
                "or leave those rows out."
            )


def check_per_row(name: str, values: ArrayLike, count: int) -> NDArray[Any]:
    """Return an array of one value a row, shape (count,).

    Missing values stay missing: NumPy would write those of a list of texts as "nan".

    Raises
    ------
    ValueError
        If the shape is another.

    Examples
    --------
    >>> check_per_row("groups", ["a", "b"], 3)
    Traceback (most recent call last):
    ValueError: groups has shape (2,); it must hold one value a row, shape (3,).
    """
    array = np.asarray(values)
    if array.dtype.kind == "U" and not hasattr(values, "dtype"):
        array = np.asarray(values, dtype=object)
    if array.shape != (count,):
        raise ValueError(f"{name} has shape {array.shape}; it must hold one value a row, shape ({count},).")
    return array


def check_names(name: str, values: str | Iterable[str] | None, count: int) -> list[str]:
    """Return one text for each of `count` rows, from one for all or one for each; of None none.

    Raises
    ------
    ValueError
        If there are more or fewer, or one is no text: nobody would be meant by it, in silence.

    Examples
    --------
    >>> check_names("exclude_patient", "p1", 2)
    ['p1', 'p1']
    """
    if values is None:
        return []
    names = [values] * count if isinstance(values, str) else np.atleast_1d(np.asarray(values)).tolist()
    if len(names) != count:
        raise ValueError(f"{name} names {len(names)} for {count} rows; give one for each.")
    for value in names:
        if not isinstance(value, str):
            raise ValueError(f"{name}={value!r} is no text; give names.")
    return names


def check_positions(name: str, values: ArrayLike) -> list[int]:
    """Return whole numbers that name rows; a mask is refused, which would be taken for rows 0 and 1.

    Raises
    ------
    ValueError
        If the values are of another kind.

    Examples
    --------
    >>> check_positions("cases", [True, False])
    Traceback (most recent call last):
    ValueError: cases holds bool; give whole numbers.
    """
    array = np.asarray(values).reshape(-1)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}; give whole numbers.")
    return [int(number) for number in array]


def check_vectors(name: str, values: ArrayLike, *, least: int = 1, least_dim: int = 1) -> NDArray[np.float64]:
    """Return finite vectors, float64 (N, dim).

    Parameters
    ----------
    name : str
        The argument's name.
    values : array of shape (N, dim)
        Such as embeddings.
    least, least_dim : int
        Fewest rows and dimensions.

    Raises
    ------
    ValueError
        If the shape is another, or a row holds NaN or infinity.

    Examples
    --------
    >>> check_vectors("embeddings", [[0.0, float("nan")], [1.0, 2.0]])
    Traceback (most recent call last):
    ValueError: embeddings holds NaN or infinity in 1 of 2 rows, the first is row 0; leave those out.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < least_dim:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be (N, dim) with dim at least {least_dim}."
        )
    if len(array) < least:
        raise ValueError(f"{name} holds {len(array)} rows; at least {least} are needed.")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{name} holds NaN or infinity in {len(bad)} of {len(array)} rows, the first is row {bad[0]}; "
            "leave those out."
        )
    return array


def _bounds(
    least: float | None, most: float | None, above: float | None = None, below: float | None = None
) -> str:
    """Give the words for the bounds, with a leading space."""
    if least is not None and most is not None:
        return f" from {least} to {most}"
    words = [
        f"{word} {bound}"
        for word, bound in (("of at least", least), ("above", above), ("of at most", most), ("below", below))
        if bound is not None
    ]
    return "".join(f" {word}" for word in [" and ".join(words)] if word)
