"""The operating point of a model: calibrated probabilities and a threshold, chosen on patients apart."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_columns, check_number, check_vectors, check_whole

from ._checks import as_codes, as_label, as_probability, as_shares, as_units
from ._folds import patient_folds, spread_classes
from .aggregation import aggregate as aggregate_studies
from .baselines import number_of_classes
from .calibration import IsotonicCalibration, TemperatureScaling
from .intervals import bootstrap
from .metrics import score_draws
from .multiclass import is_ordered, study_shares
from .operating_point import OperatingPoint
from .worklist import threshold_for_sensitivity

log = logging.getLogger(__name__)

METHODS = ("temperature", "isotonic", "none")


def fit_operating_point(
    table: pd.DataFrame, probability: ArrayLike, *, sensitivity: float = 0.9,
    method: Literal["temperature", "isotonic", "none"] = "temperature",
    level: Literal["view", "study"] = "view", folds: int = 5, draws: int = 1000, seed: int = 0,
) -> OperatingPoint:  # fmt: skip
    """Fit a calibration and a threshold on patients that the model was not fitted on.

    Parameters
    ----------
    table : DataFrame
        ``label`` and ``patient``, one row a view; for studies also ``part`` and ``study``.
    probability : array of shape (N,) or (N, C)
        The model's, of patients apart: `out_of_fold_probability` of the training patients, not of valid, on which
        the model is measured later.
    sensitivity : float
        Wanted share of abnormal rows that are called so, in (0, 1]; for two classes.
    method : {"temperature", "isotonic", "none"}
        Isotonic is for two classes.
    level : {"view", "study"}
    folds : int
        Parts of the patients for ``apart``: map and threshold are fitted on the others. What is returned is fitted
        on all.
    draws, seed
        Of the intervals in ``apart``; `seed` also parts the patients.

    Returns
    -------
    OperatingPoint

    Raises
    ------
    ValueError
        Where a column is missing, no row is abnormal, or a probability is not in [0, 1].

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"label": rng.integers(0, 2, 400), "patient": np.arange(400) // 2})
    >>> p = 1 / (1 + np.exp(-3 * (2 * table["label"] - 1 + rng.normal(size=400))))
    >>> point = fit_operating_point(table, p, sensitivity=0.9, draws=200)
    >>> bool(point.decide(p)[table["label"] == 1].mean() >= 0.9)
    True
    >>> OperatingPoint.from_dict(point.to_dict()) == point
    True
    """
    check_choice("method", method, METHODS)
    check_choice("level", level, ("view", "study"))
    check_number("sensitivity", sensitivity, above=0, most=1)
    check_whole("folds", folds, least=2)
    check_columns(table, ("label", "patient"))
    shape = np.shape(probability)
    many = len(shape) == 2 and shape[1] > 2
    if many and method == "isotonic":
        raise ValueError(
            f"method='isotonic' is for two classes, probability has {shape[1]}; take 'temperature'."
        )
    rows = table
    if many:
        p = as_shares(probability, len(table))
        if level == "study":
            rows, p = study_shares(table, p, ordered=is_ordered(table))
        y = as_codes(rows["label"], p.shape[1], "table['label']")
    else:
        p = as_probability(probability, len(table))
        if level == "study":
            rows = aggregate_studies(table, p)
            p = rows["probability"].to_numpy()
        y = as_label(rows["label"], "table['label']")
    patient = as_units(rows["patient"], len(rows), "table['patient']")

    calibrator, threshold = _fit(y, p, method, sensitivity)
    apart: dict[str, float] = {}
    if (parts := patient_folds(y, patient, folds, seed)) is not None and len(np.unique(y)) > 1:
        calibrated, said = np.empty_like(p), np.zeros(len(p))
        for others, some in parts.split(p, y, patient):
            fold_map, cut = _fit(y[others], p[others], method, sensitivity)
            calibrated[some] = p[some] if fold_map is None else fold_map.predict(p[some])
            if cut is not None:
                said[some] = calibrated[some] > cut
        apart = {"brier_before": _brier(y, p), "brier": _brier(y, calibrated)}
        if not many:
            apart |= _answers(y, said, patient, draws, seed)
    else:
        log.warning(
            "too few patients of a class for folds: the operating point is not measured on patients apart."
        )
    point = OperatingPoint(
        level,
        None if calibrator is None else calibrator.to_dict(),
        threshold,
        None if many else float(sensitivity),
        int(patient.max()) + 1,
        len(rows),
        apart,
    )
    if point.calls_all:
        log.warning("operating point: %s", point.warning)
    return point


def out_of_fold_probability(
    head: Any,
    embeddings: ArrayLike,
    table: pd.DataFrame,
    *,
    folds: int = 5,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Probabilities of each patient by a head that was fitted on the other patients.

    The network that made the embeddings has seen all of them where it was trained on this table: then the
    probabilities are still somewhat too good. Hold patients back from its training to be rid of that.

    Parameters
    ----------
    head : KNNHead, MLPHead or another scikit-learn classifier
        Cloned, not changed.
    embeddings : array of shape (N, dim)
    table : DataFrame
        ``label`` and ``patient``, one row an embedding.
    folds : int
        Parts of the patients; fewer where a class has fewer patients.
    seed : int
        Of the parting.

    Returns
    -------
    ndarray of shape (N,), float64
        Of the abnormal class; of three classes or more (N, C).

    Raises
    ------
    ValueError
        Where lengths do not agree, or a class has fewer than two patients.

    Examples
    --------
    >>> from siamura.heads import KNNHead
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"label": rng.integers(0, 2, 60), "patient": np.arange(60) // 2})
    >>> out_of_fold_probability(KNNHead(k=5), rng.normal(size=(60, 4)), table).shape
    (60,)
    """
    from sklearn.base import clone  # here for the time that it takes to load

    check_columns(table, ("label", "patient"))
    check_whole("folds", folds, least=2)
    rows = check_vectors("embeddings", embeddings)
    if len(rows) != len(table):
        raise ValueError(f"embeddings has {len(rows)} rows, table {len(table)}; give one row a row.")
    number = number_of_classes(table)
    y = as_codes(table["label"], number, "table['label']")
    patient = as_units(table["patient"], len(table), "table['patient']")
    parts = patient_folds(y, patient, folds, seed)
    if parts is None or len(np.unique(y)) < 2:
        counts = {int(kind): len(np.unique(patient[y == kind])) for kind in np.unique(y)}
        raise ValueError(f"table has {counts} patients of each label; two of each of two labels are needed.")
    found = np.empty((len(y), number))
    for others, some in parts.split(rows, y, patient):
        fitted = clone(head).fit(rows[others], y[others])
        found[some] = spread_classes(fitted.predict_proba(rows[some]), fitted.classes_, number)
    return found[:, 1] if number == 2 else found


def _fit(
    y: NDArray[np.int64], p: NDArray[np.float64], method: str, sensitivity: float
) -> tuple[TemperatureScaling | IsotonicCalibration | None, float | None]:
    calibrator: TemperatureScaling | IsotonicCalibration | None = None
    if method == "temperature":
        calibrator = TemperatureScaling().fit(p, y)
    elif method == "isotonic":
        calibrator = IsotonicCalibration().fit(p, y)
    if p.ndim == 2:
        return calibrator, None
    return calibrator, threshold_for_sensitivity(
        y, p if calibrator is None else calibrator.predict(p), sensitivity
    )


def _brier(y: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    if p.ndim == 1:
        return float(((p - y) ** 2).mean())
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def _answers(
    y: NDArray[np.int64], said: NDArray[np.float64], patient: NDArray[np.int64], draws: int, seed: int
) -> dict[str, float]:
    found = bootstrap(
        lambda counts: score_draws(y, said, counts, groups=patient, only=("recall", "specificity")),
        int(patient.max()) + 1,
        draws,
        0.95,
        seed,
    )
    names = {"recall": "sensitivity", "specificity": "specificity"}
    return {
        f"{named}{end}": float(values[name])
        for name, named in names.items()
        for end, values in (("", found.value), ("_low", found.low), ("_high", found.high))
    }
