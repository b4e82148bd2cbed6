"""The operating point of a model: calibrated probabilities and a threshold, chosen on patients apart."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_columns, check_number, check_vectors, check_whole

from ._checks import as_codes, as_label, as_probability, as_shares, as_units
from ._folds import patient_folds, spread_classes
from .aggregation import aggregate as aggregate_studies
from .baselines import number_of_classes
from .calibration import IsotonicCalibration, TemperatureScaling, calibrator_from_dict
from .intervals import bootstrap
from .metrics import score_draws
from .multiclass import is_ordered, study_shares
from .worklist import threshold_for_sensitivity

log = logging.getLogger(__name__)

METHODS = ("temperature", "isotonic", "none")


@dataclass(frozen=True)
class OperatingPoint:
    """How a model's probabilities become calibrated ones and, with two classes, an answer.

    Attributes
    ----------
    level : {"view", "study"}
        What was calibrated: views, or studies with the mean of their views' probabilities.
    calibrator : dict or None
        As from ``to_dict`` of `TemperatureScaling` or `IsotonicCalibration`; None for none.
    threshold : float or None
        A calibrated probability above it is called abnormal. None with three classes or more.
    sensitivity : float or None
        The wanted one.
    patients, rows : int
        On how many it was fitted.
    apart : dict of str to float
        Measured on patients that had no say in the map and threshold: ``brier_before`` and ``brier`` (calibrated),
        with two classes ``sensitivity`` and ``specificity`` with their 95 % intervals (``..._low``, ``..._high``).
        Empty where there were too few patients for folds.

    Examples
    --------
    >>> point = OperatingPoint("study", None, threshold=0.25, sensitivity=0.9, patients=80, rows=100)
    >>> point.decide([0.2, 0.3])
    array([0, 1])
    >>> OperatingPoint.from_dict(point.to_dict()) == point
    True
    """

    level: str
    calibrator: Mapping[str, Any] | None
    threshold: float | None
    sensitivity: float | None
    patients: int
    rows: int
    apart: Mapping[str, float] = field(default_factory=dict)

    def calibrate(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Calibrate probabilities of the `level`.

        Parameters
        ----------
        probability : array of shape (N,), or (N, C) for three classes or more

        Returns
        -------
        ndarray of the same shape, float64
        """
        given = np.asarray(probability, dtype=np.float64)
        if self.calibrator is not None:
            return calibrator_from_dict(dict(self.calibrator)).predict(given)
        many = given.ndim == 2 and given.shape[1] > 2
        return as_shares(given, len(given)) if many else as_probability(given, len(given))

    def decide(self, probability: ArrayLike) -> NDArray[np.int64]:
        """Answer 1 (abnormal) or 0, or the class of the largest calibrated probability.

        Parameters
        ----------
        probability : array of shape (N,), or (N, C) for three classes or more
            As the model gives it, not calibrated.

        Returns
        -------
        ndarray of shape (N,), int64
        """
        p = self.calibrate(probability)
        if self.threshold is None:
            return np.asarray(p.argmax(axis=1), dtype=np.int64)
        return np.asarray(p > self.threshold, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can keep; `from_dict` reads it."""
        return {
            "level": self.level,
            "calibrator": None if self.calibrator is None else dict(self.calibrator),
            "threshold": self.threshold,
            "sensitivity": self.sensitivity,
            "patients": self.patients,
            "rows": self.rows,
            "apart": {name: value if math.isfinite(value) else None for name, value in self.apart.items()},
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """Make an operating point again from its ``to_dict()``.

        Raises
        ------
        ValueError
            Where a key is missing or unknown, or a value is not what it must be.
        """
        names = ("level", "calibrator", "threshold", "sensitivity", "patients", "rows", "apart")
        if not isinstance(kept, Mapping) or set(kept) != set(names):
            found = sorted(map(str, kept)) if isinstance(kept, Mapping) else type(kept).__name__
            raise ValueError(f"kept={found} is no operating point; it has the keys {', '.join(names)}.")
        calibrator = kept["calibrator"]
        if calibrator is not None:
            calibrator = calibrator_from_dict(calibrator).to_dict()
        apart = kept["apart"] if isinstance(kept["apart"], Mapping) else {}
        return cls(
            check_choice("level", kept["level"], ("view", "study")),
            calibrator,
            None if kept["threshold"] is None else check_number("threshold", kept["threshold"]),
            None
            if kept["sensitivity"] is None
            else check_number("sensitivity", kept["sensitivity"], above=0, most=1),
            check_whole("patients", kept["patients"]),
            check_whole("rows", kept["rows"]),
            {str(name): float("nan") if value is None else float(value) for name, value in apart.items()},
        )


def fit_operating_point(
    table: pd.DataFrame,
    probability: ArrayLike,
    *,
    sensitivity: float = 0.9,
    method: Literal["temperature", "isotonic", "none"] = "temperature",
    level: Literal["view", "study"] = "view",
    folds: int = 5,
    draws: int = 1000,
    seed: int = 0,
) -> OperatingPoint:
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
    return OperatingPoint(
        level,
        None if calibrator is None else calibrator.to_dict(),
        threshold,
        None if many else float(sensitivity),
        int(patient.max()) + 1,
        len(rows),
        apart,
    )


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
