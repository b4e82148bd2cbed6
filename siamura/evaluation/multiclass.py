"""Scores of three classes or more, for many bootstrap draws at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_columns
from siamura.studies import classes_of

from ._checks import as_codes, as_shares, as_units
from .aggregation import STUDY
from .metrics import ranked_draws

Float = NDArray[np.float64]


def class_draws(
    label: ArrayLike,
    probability: ArrayLike,
    counts: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    ordered: bool = False,
) -> dict[str, Float]:
    """Score every draw, of two classes or more; the answer is the class of the largest probability.

    Parameters
    ----------
    label : array of shape (N,), int
        Codes 0 to C - 1.
    probability : array of shape (N, C)
        Of each class; rows sum to 1.
    counts : array of shape (draws, patients), optional
        How often each patient is in each draw; default: everybody once.
    groups : array of shape (N,), optional
        The patient of each row. Default: every row is one.
    classes : sequence of str, optional
        The names of the classes, by code.
    ordered : bool
        Whether the classes are grades: adds kappa with quadratic weights.

    Returns
    -------
    dict of str to ndarray of shape (draws,)
        ``accuracy, error, kappa``, ``kappa_quadratic`` where `ordered`, ``precision_macro, recall_macro,
        f1_macro, auroc_macro``, ``brier`` (the sum over the classes), and of each class ``precision[NAME],
        recall[NAME], f1[NAME], auroc[NAME]`` (against all others). NaN where a draw leaves a score undefined.
        The macro scores are means over the classes that have rows in the draw; a class that is never the
        answer counts there with a precision of 0.

    References
    ----------
    Cohen, "Weighted kappa", Psychological Bulletin 70, 1968.

    Examples
    --------
    >>> share = [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2]]
    >>> scores = class_draws([0, 1, 2, 2], share, classes=("normal", "cyst", "fracture"))
    >>> float(scores["accuracy"][0]), float(scores["recall[fracture]"][0])
    (0.75, 0.5)
    """
    y = np.asarray(label)
    p = as_shares(probability, len(y))
    number = p.shape[1]
    names = tuple(map(str, classes)) if classes is not None else tuple(map(str, range(number)))
    y = as_codes(y, number)
    unit = as_units(groups, len(y))
    weight = np.ones((1, int(unit.max()) + 1)) if counts is None else np.asarray(counts, dtype=np.float64)
    sums = np.zeros((weight.shape[1], number * number + 1))
    np.add.at(sums, (unit, y * number + p.argmax(axis=1)), 1.0)
    np.add.at(sums, (unit, np.full(len(y), number * number)), ((p - np.eye(number)[y]) ** 2).sum(axis=1))
    total = weight @ sums
    table = total[:, :-1].reshape(-1, number, number)
    there, said, right = table.sum(axis=2), table.sum(axis=1), np.einsum("dcc->dc", table)
    n = there.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = right.sum(axis=1) / n
        chance = (there * said).sum(axis=1) / n**2
        found = {
            "accuracy": accuracy,
            "error": 1 - accuracy,
            "kappa": (accuracy - chance) / (1 - chance),
        }
        if ordered:
            step = (np.arange(number)[:, None] - np.arange(number)) ** 2.0
            expected = np.einsum("di,dj,ij->d", there, said, step) / n
            found["kappa_quadratic"] = 1 - np.einsum("dij,ij->d", table, step) / expected
        each = {
            "precision": right / said,
            "recall": right / there,
            "f1": 2 * right / (there + said),
            "auroc": np.stack(
                [ranked_draws((y == c).astype(np.int64), p[:, c], unit, weight)[0] for c in range(number)],
                axis=1,
            ),
        }
        for name, value in each.items():
            filled = np.where(said > 0, value, 0) if name == "precision" else value
            counted = (there > 0) & ~np.isnan(filled)
            found[f"{name}_macro"] = np.where(counted, filled, 0).sum(axis=1) / counted.sum(axis=1)
        found["brier"] = total[:, -1] / n
        for c, of in enumerate(names):
            for name, value in each.items():
                found[f"{name}[{of}]"] = value[:, c]
    return found


def class_names(table: pd.DataFrame, number: int, classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """Name each of `number` classes: as given, as ``attrs["classes"]`` or column ``finding`` does, or by code.

    Raises
    ------
    ValueError
        Where there are more names or fewer, or one twice.
    """
    given = classes if classes is not None else table.attrs.get("classes")
    if given is None and "finding" in table and len(by_finding := classes_of(table)) == number:
        given = by_finding  # pandas has lost the attributes, in a merge say
    names = tuple(map(str, given)) if given is not None else tuple(map(str, range(number)))
    if len(names) != number or len(set(names)) != number:
        raise ValueError(
            f"classes={list(names)} does not name each of the {number} columns of probability once"
        )
    return names


def is_ordered(table: pd.DataFrame, ordered: bool | None = None) -> bool:
    """Return whether the classes are grades: as given, else as ``table.attrs["ordered"]`` says, else not."""
    return bool(table.attrs.get("ordered", False)) if ordered is None else ordered


def study_shares(table: pd.DataFrame, p: Float, *, ordered: bool) -> tuple[pd.DataFrame, Float]:
    """Return one row a study, and the mean of its views' probabilities, float64 (S, C).

    Raises
    ------
    ValueError
        Where the views of a study have several labels that have no order.
    """
    check_columns(table, (*STUDY, "label"))
    code = table.groupby(list(STUDY), sort=False, dropna=False).ngroup().to_numpy()
    count = np.bincount(code)
    mean = np.stack([np.bincount(code, weights=p[:, c]) for c in range(p.shape[1])], axis=1) / count[:, None]
    label = as_codes(table["label"], p.shape[1], "table['label']")
    least, most = np.full(len(count), p.shape[1]), np.full(len(count), -1)
    np.minimum.at(least, code, label)
    np.maximum.at(most, code, label)
    if not ordered and (least != most).any():
        row = table.iloc[int(np.flatnonzero(code == np.flatnonzero(least != most)[0])[0])]
        raise ValueError(
            f"study {' '.join(str(row[name]) for name in STUDY)} has views of several labels, one of "
            f"{int((least != most).sum())} such studies; give every view the study's label, or ordered=True"
        )
    first = np.unique(code, return_index=True)[1]
    studies = table.iloc[first][[*STUDY]].reset_index(drop=True)
    studies["label"], studies["views"] = most, count
    return studies, mean


def one_vs_rest(
    label: ArrayLike,
    probability: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
) -> dict[str, tuple[NDArray[Any], ...]]:
    """Take each class against all others, as the curves of `siamura.plots` draw several models.

    Parameters
    ----------
    label : array of shape (N,), int
        Codes 0 to C - 1.
    probability : array of shape (N, C)
    classes : sequence of str, optional
        The names of the classes, by code.
    groups : array of shape (N,), optional
        The patient of each row.

    Returns
    -------
    dict of str to tuple
        Class name to (label 0 or 1, probability of the class) or, with `groups`, (label, probability, groups).

    Examples
    --------
    >>> panels = one_vs_rest([0, 1, 2], [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
    >>> panels["2"]
    (array([0, 0, 1]), array([0.1, 0.3, 0.6]))
    """
    y = np.asarray(label)
    p = as_shares(probability, len(y))
    y = as_codes(y, p.shape[1])
    names = tuple(map(str, classes)) if classes is not None else tuple(map(str, range(p.shape[1])))
    if len(names) != p.shape[1]:
        raise ValueError(f"classes={list(names)} names {len(names)} classes, probability has {p.shape[1]}")
    more = () if groups is None else (np.asarray(groups),)
    return {name: ((y == c).astype(np.int64), p[:, c], *more) for c, name in enumerate(names)}
