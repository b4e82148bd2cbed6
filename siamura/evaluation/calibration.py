"""Probabilities that mean what they say: temperature and isotonic, fitted on patients apart."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ._checks import as_label, as_probability, as_units, need_columns, one_of

Float = NDArray[np.float64]
COLDEST, HOTTEST = 0.02, 50.0


class TemperatureScaling:
    """One number that makes all probabilities bolder or meeker; their order stays.

    ``p -> sigmoid(logit(p) / T)``. T above 1 tames an overconfident model.

    Parameters
    ----------
    clip : float
        Probabilities are kept this far from 0 and 1: a k-NN head says 0 and 1, whose logits are infinite.

    Attributes
    ----------
    temperature_ : float
        Of least negative log-likelihood, in [0.02, 50].

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.

    Examples
    --------
    >>> boastful = [0.99] * 10 + [0.01] * 10
    >>> label = [1] * 8 + [0] * 2 + [0] * 8 + [1] * 2
    >>> scaling = TemperatureScaling().fit(boastful, label)
    >>> scaling.predict([0.99, 0.5, 0.01]).round(3)
    array([0.8, 0.5, 0.2])
    """

    def __init__(self, clip: float = 1e-3) -> None:
        if not 0 < clip < 0.5:
            raise ValueError(f"clip is {clip!r}; it must be in (0, 0.5)")
        self.clip = clip

    def fit(self, probability: ArrayLike, label: ArrayLike) -> Self:
        """Find the temperature.

        Parameters
        ----------
        probability : array of shape (N,)
        label : array of shape (N,), 0 or 1

        Returns
        -------
        TemperatureScaling
            Itself.
        """
        from scipy.optimize import minimize_scalar

        y = as_label(label)
        logit = self._logit(as_probability(probability, len(y)))
        sign = np.where(y == 1, -1.0, 1.0)

        # Convex in 1 / T, so it has one valley in log T too.
        def loss(log_temperature: float) -> float:
            return float(np.logaddexp(0, sign * logit * np.exp(-log_temperature)).mean())

        limits = (np.log(COLDEST), np.log(HOTTEST))
        found = minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-8})
        self.temperature_ = float(np.exp(found.x))
        return self

    def predict(self, probability: ArrayLike) -> Float:
        """Scale probabilities.

        Parameters
        ----------
        probability : array of shape (N,)

        Returns
        -------
        ndarray of shape (N,)
        """
        p = as_probability(probability, len(np.asarray(probability)))
        return np.asarray(1 / (1 + np.exp(-self._logit(p) / _fitted(self, "temperature_"))))

    def _logit(self, p: Float) -> Float:
        p = np.clip(p, self.clip, 1 - self.clip)
        return np.asarray(np.log(p) - np.log1p(-p))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can keep."""
        return {"method": "temperature", "clip": self.clip, "temperature": _fitted(self, "temperature_")}


class IsotonicCalibration:
    """The rising staircase closest to the labels; needs some hundred rows, ties what is not told apart.

    Attributes
    ----------
    knots_ : ndarray of shape (K, 2)
        Probabilities in and out, linear between.

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD
    2002.

    Examples
    --------
    >>> isotonic = IsotonicCalibration().fit([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1])
    >>> isotonic.predict([0.0, 0.2, 0.25, 0.9]).tolist()
    [0.0, 0.5, 0.5, 1.0]
    """

    def fit(self, probability: ArrayLike, label: ArrayLike) -> Self:
        """Find the staircase.

        Parameters
        ----------
        probability : array of shape (N,)
        label : array of shape (N,), 0 or 1

        Returns
        -------
        IsotonicCalibration
            Itself.
        """
        from sklearn.isotonic import IsotonicRegression

        y = as_label(label)
        p = as_probability(probability, len(y))
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
        self.knots_ = np.stack([fitted.X_thresholds_, fitted.y_thresholds_], axis=1)
        return self

    def predict(self, probability: ArrayLike) -> Float:
        """Map probabilities.

        Parameters
        ----------
        probability : array of shape (N,)

        Returns
        -------
        ndarray of shape (N,)
        """
        knots = _fitted(self, "knots_")
        p = as_probability(probability, len(np.asarray(probability)))
        return np.asarray(np.interp(p, knots[:, 0], knots[:, 1]))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can keep."""
        return {"method": "isotonic", "knots": _fitted(self, "knots_").tolist()}


def _fitted(calibrator: object, name: str) -> Any:
    if not hasattr(calibrator, name):
        raise ValueError(
            f"this {type(calibrator).__name__} is not fitted; call fit(probability, label) first"
        )
    return getattr(calibrator, name)


def calibrator_from_dict(kept: dict[str, Any]) -> TemperatureScaling | IsotonicCalibration:
    """Make a calibrator again from its ``to_dict()``.

    Parameters
    ----------
    kept : dict

    Returns
    -------
    TemperatureScaling or IsotonicCalibration

    Examples
    --------
    >>> kept = IsotonicCalibration().fit([0.25, 0.75], [0, 1]).to_dict()
    >>> calibrator_from_dict(kept).predict([0.5]).tolist()
    [0.5]
    """
    if one_of(kept.get("method"), "method", ("temperature", "isotonic")) == "temperature":
        scaling = TemperatureScaling(kept["clip"])
        scaling.temperature_ = float(kept["temperature"])
        return scaling
    isotonic = IsotonicCalibration()
    isotonic.knots_ = np.asarray(kept["knots"], dtype=np.float64).reshape(-1, 2)
    return isotonic


def calibrate(
    table: pd.DataFrame,
    probability: ArrayLike,
    method: Literal["temperature", "isotonic"] = "temperature",
    *,
    folds: int = 5,
    seed: int = 0,
) -> Float:
    """Calibrate each patient's probabilities by a map fitted on the other patients.

    Parameters
    ----------
    table : DataFrame
        ``label`` and ``patient``, one row a probability (views, or studies as from `aggregate`).
    probability : array of shape (N,)
        Of the abnormal class.
    method : {"temperature", "isotonic"}
    folds : int
        Parts of the patients, each calibrated by the rest; at least 2.
    seed : int
        Of the parting.

    Returns
    -------
    ndarray of shape (N,)
        Calibrated probabilities, none of whose own patient had a say in the map.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"patient": np.arange(400) // 2, "label": rng.integers(0, 2, 400)})
    >>> boastful = np.where(rng.random(400) < 0.8, table["label"], 1 - table["label"])
    >>> p = calibrate(table, boastful)
    >>> bool(np.mean((p - table["label"]) ** 2) < np.mean((boastful - table["label"]) ** 2))
    True
    """
    from sklearn.model_selection import StratifiedGroupKFold

    need_columns(table, ("label", "patient"))
    one_of(method, "method", ("temperature", "isotonic"))
    y = as_label(table["label"], "table['label']")
    p = as_probability(probability, len(table))
    unit = as_units(table["patient"], len(table), "table['patient']")
    patients = int(unit.max()) + 1
    if not 2 <= folds <= patients:
        raise ValueError(f"folds is {folds!r}; it must be at least 2 and at most the {patients} patients")
    out = np.empty(len(p))
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for others, some in parts.split(p[:, None], y, unit):
        calibrator = TemperatureScaling() if method == "temperature" else IsotonicCalibration()
        out[some] = calibrator.fit(p[others], y[others]).predict(p[some])
    return out
