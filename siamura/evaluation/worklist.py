"""Abnormal first: the order of a work-list, what it saves, and a threshold by a wanted sensitivity."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_number

from ._checks import as_label, as_probability, as_units
from .aggregation import STUDY
from .aggregation import aggregate as aggregate_studies
from .intervals import bootstrap
from .metrics import ranked_draws


def threshold_for_sensitivity(label: ArrayLike, probability: ArrayLike, sensitivity: float = 0.95) -> float:
    """Highest threshold at which the wanted share of abnormal rows is called abnormal.

    Choose it on patients apart from those on whom it is then measured.

    Parameters
    ----------
    label : array of shape (N,), 0 or 1
        At least one abnormal.
    probability : array of shape (N,)
        Of the abnormal class, in [0, 1].
    sensitivity : float
        Wanted share, in (0, 1].

    Returns
    -------
    float
        For ``probability > threshold``, as in ``evaluate(..., threshold=...)``. It lies midway between the
        last score to be caught and the next below; slightly below zero where even a score of 0 must be
        caught.

    Examples
    --------
    >>> threshold_for_sensitivity([0, 0, 1, 1, 1, 1], [0.1, 0.5, 0.4, 0.6, 0.7, 0.9], sensitivity=0.75)
    0.55
    """
    y = as_label(label)
    p = as_probability(probability, len(y))
    check_number("sensitivity", sensitivity, above=0, most=1)
    if not y.any():
        raise ValueError("label holds no 1; a sensitivity needs at least one abnormal row")
    caught = np.sort(p[y == 1])[::-1]
    # 0.95 * 20 is 19.000000000000004 in binary: without the allowance one more would have to be caught.
    last = caught[max(0, int(np.ceil(sensitivity * len(caught) - 1e-9)) - 1)]
    below = p[p < last]
    if len(below):
        return float((last + below.max()) / 2)
    return float(last / 2) if last > 0 else float(np.nextafter(0, -1))


def work_list(
    table: pd.DataFrame,
    probability: ArrayLike,
    *,
    aggregate: Literal["mean", "max", "noisy-or", "top-k"] = "mean",
    top: int = 2,
) -> pd.DataFrame:
    """Studies in the order in which they should be read, the most suspicious first.

    Parameters
    ----------
    table : DataFrame
        One row a view: ``part, patient, study, label``, in order of arrival.
    probability : array of shape (N,)
        Of the abnormal class, one a view.
    aggregate, top
        As for `siamura.evaluation.aggregate`.

    Returns
    -------
    DataFrame
        ``rank`` (from 1), ``part, patient, study, label, views, probability, arrived`` (from 1). Equal
        probabilities stay in order of arrival.

    Examples
    --------
    >>> views = pd.DataFrame({"part": "XR_HAND", "patient": ["a", "b", "c"], "study": "study1",
    ...                       "label": [0, 1, 0]})
    >>> work_list(views, [0.2, 0.9, 0.4])[["rank", "patient", "arrived"]].to_numpy().tolist()
    [[1, 'b', 2], [2, 'c', 3], [3, 'a', 1]]
    """
    studies = aggregate_studies(table, probability, aggregate, top=top)
    studies["arrived"] = np.arange(1, len(studies) + 1)
    ordered = studies.sort_values("probability", ascending=False, kind="stable").reset_index(drop=True)
    ordered.insert(0, "rank", np.arange(1, len(ordered) + 1))
    return ordered


def work_list_gain(
    table: pd.DataFrame, probability: ArrayLike, *, arrival: ArrayLike | None = None,
    minutes: float | None = None, aggregate: Literal["mean", "max", "noisy-or", "top-k"] = "mean",
    top: int = 2, draws: int = 2000, confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Measure what reading in the model's order saves, against first come, first read.

    Parameters
    ----------
    table, probability, aggregate, top
        As for `work_list`.
    arrival : array of shape (N,), optional
        When each view came; a study arrives with its first. Default: the mean over all orders of arrival,
        since the order of rows in a file is no time.
    minutes : float, optional
        To read one study, above 0: adds what an abnormal study waits less.
    draws, confidence, seed
        Of the intervals.

    Returns
    -------
    DataFrame
        Index ``measure``; columns ``value, low, high``: ``rank_first_come`` and ``rank_model`` (mean place of
        an abnormal study in the list, from 1; ties count their middle), ``rank_best`` (all abnormal before
        all normal), ``saved`` (places, first come - model), ``saved_share`` (of what could be saved),
        ``read_for_90`` (share of the list to be read until 90 % of the abnormal studies are), and
        ``saved_minutes``. ``.attrs``: ``studies, abnormal, patients, draws, degenerate``.

    Notes
    -----
    The mean rank of A abnormal among N normal studies is ``(A + 1) / 2 + N * (1 - AUROC)``: a work-list says
    in places what the AUROC says in probabilities. ``saved_share`` is ``2 * AUROC - 1`` against the mean over
    all orders of arrival.

    Examples
    --------
    >>> views = pd.DataFrame({"part": "XR_HAND", "patient": list("abcd"), "study": "study1",
    ...                       "label": [0, 0, 1, 1]})
    >>> gain = work_list_gain(views, [0.1, 0.6, 0.5, 0.9], draws=0)
    >>> gain["value"].round(2).to_dict()
    {'rank_first_come': 2.5, 'rank_model': 2.0, 'rank_best': 1.5, 'saved': 0.5, 'saved_share': 0.5,
     'read_for_90': 0.75}
    """
    if minutes is not None:
        check_number("minutes", minutes, above=0)
    studies = aggregate_studies(table, probability, aggregate, top=top)
    y = as_label(studies["label"])
    p = studies["probability"].to_numpy()
    if y.min() == y.max():
        raise ValueError(f"all {len(y)} studies have the label {y[0]}; a gain needs both labels")
    unit = as_units(studies["patient"], len(studies), "table['patient']")
    came = None
    if arrival is not None:
        came = _study_arrival(table, arrival)
    patients = int(unit.max()) + 1
    found = bootstrap(
        lambda counts: _gain(y, p, unit, came, counts, minutes), patients, draws, confidence, seed
    )
    frame = pd.DataFrame({"value": found.value, "low": found.low, "high": found.high})
    frame.index.name = "measure"
    frame.attrs.update(
        {
            "studies": len(studies),
            "abnormal": int(y.sum()),
            "patients": patients,
            "draws": draws,
            "degenerate": found.degenerate,
        }
    )
    return frame


def _study_arrival(table: pd.DataFrame, arrival: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(arrival)
    if given.shape != (len(table),):
        raise ValueError(
            f"arrival has shape {given.shape}; it must hold one time a row, shape ({len(table)},)"
        )
    times = pd.Series(given)
    if times.isna().any():
        raise ValueError(
            f"arrival is missing at row {int(np.flatnonzero(times.isna())[0])}; every view needs one"
        )
    keys = [np.asarray(table[name]) for name in STUDY]
    first = times.groupby(keys, sort=False, dropna=False).min()
    return np.asarray(first.rank(method="average"), dtype=np.float64)


def _gain(
    y: NDArray[np.int64],
    p: NDArray[np.float64],
    unit: NDArray[np.int64],
    came: NDArray[np.float64] | None,
    counts: NDArray[np.float64],
    minutes: float | None,
) -> dict[str, NDArray[np.float64]]:
    """Every measure of every draw."""
    rows = counts[:, unit]
    abnormal, normal = rows @ y, rows @ (1 - y)
    with np.errstate(divide="ignore", invalid="ignore"):
        model = ranked_draws(y, p, unit, counts)[0]
        chance = np.where(np.isnan(model), np.nan, 0.5)
        first = chance if came is None else ranked_draws(y, -came, unit, counts)[0]
        best = (abnormal + 1) / 2
        found = {
            "rank_first_come": best + normal * (1 - first),
            "rank_model": best + normal * (1 - model),
            "rank_best": np.where(np.isnan(model), np.nan, best),
            "saved": normal * (model - first),
            "saved_share": np.where(first < 1, (model - first) / (1 - first), 0.0),
            "read_for_90": _read_for(y, p, rows, 0.9),
        }
    found["saved_share"] = np.where(np.isnan(model), np.nan, found["saved_share"])
    if minutes is not None:
        found["saved_minutes"] = minutes * found["saved"]
    return found


def _read_for(
    y: NDArray[np.int64], p: NDArray[np.float64], rows: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Share of the list that is read when `share` of the abnormal studies have been."""
    order = np.argsort(-p, kind="stable")
    read = rows[:, order].cumsum(axis=1)
    caught = (rows[:, order] * y[order]).cumsum(axis=1)
    at = (caught >= share * caught[:, -1:] - 1e-9).argmax(axis=1)
    until = np.take_along_axis(read, at[:, None], 1)[:, 0] / read[:, -1]
    return np.where(caught[:, -1] > 0, until, np.nan)
