"""Probabilities that mean what they say: temperature and isotonic, fitted on patients apart."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from siamura._validation import check_choice, check_columns, check_number, check_whole

from ._checks import as_codes, as_label, as_probability, as_shares, as_units

Float = NDArray[np.float64]
COLDEST, HOTTEST = 0.02, 50.0


class TemperatureScaling:
    """One number that moves all probabilities away from or towards each other; their order stays.

    ``p -> sigmoid(logit(p) / T)``; of three classes or more ``p -> softmax(log(p) / T)``. T above 1 is for an
    overconfident model.

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
        self.clip = check_number("clip", clip, above=0, below=0.5)

    def fit(self, probability: ArrayLike, label: ArrayLike) -> Self:
        """Find the temperature.

        Parameters
        ----------
        probability : array of shape (N,), or (N, C) for three classes or more
        label : array of shape (N,), 0 or 1, or codes of the classes

        Returns
        -------
        TemperatureScaling
            Itself.
        """
        if _many(probability):
            logits = self._log(as_shares(probability, len(np.asarray(label))))
            code = as_codes(label, logits.shape[1])
        else:
            code = as_label(label)
            logit = self._logit(as_probability(probability, len(code)))
            logits = np.stack([np.zeros(len(code)), logit], axis=1)

        # Convex in 1 / T, so it has one valley in log T too.
        def loss(log_temperature: float) -> float:
            likely = log_softmax(logits * np.exp(-log_temperature), axis=1)
            return float(-likely[np.arange(len(code)), code].mean())

        limits = (np.log(COLDEST), np.log(HOTTEST))
        found = minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-8})
        self.temperature_ = float(np.exp(found.x))
        return self

    def predict(self, probability: ArrayLike) -> Float:
        """Scale probabilities.

        Parameters
        ----------
        probability : array of shape (N,), or (N, C) for three classes or more

        Returns
        -------
        ndarray of shape (N,) or (N, C)
        """
        temperature = _fitted(self, "temperature_")
        if _many(probability):
            return np.asarray(
                softmax(self._log(as_shares(probability, len(np.asarray(probability)))) / temperature, 1)
            )
        p = as_probability(probability, len(np.asarray(probability)))
        return np.asarray(expit(self._logit(p) / temperature))

    def _log(self, shares: Float) -> Float:
        return np.asarray(np.log(np.maximum(shares, self.clip)))

    def _logit(self, p: Float) -> Float:
        p = np.clip(p, self.clip, 1 - self.clip)
        return np.asarray(np.log(p) - np.log1p(-p))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can keep."""
        return {"method": "temperature", "clip": self.clip, "temperature": _fitted(self, "temperature_")}


class IsotonicCalibration:
    """The rising step function closest to the labels; for two classes, and some hundred rows at least.

    Probabilities among which it finds no order become equal.

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
        """Find the step function.

        Parameters
        ----------
        probability : array of shape (N,)
        label : array of shape (N,), 0 or 1

        Returns
        -------
        IsotonicCalibration
            Itself.
        """
        from sklearn.isotonic import IsotonicRegression  # here, as scikit-learn takes a second to load

        if _many(probability):
            raise ValueError(
                f"probability has {np.shape(probability)[1]} classes; isotonic calibration is for two, "
                "TemperatureScaling for any number."
            )
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


def _many(probability: ArrayLike) -> bool:
    """Return whether there are three classes or more."""
    shape = np.shape(probability)
    return len(shape) == 2 and shape[1] > 2


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
    if check_choice("method", kept.get("method"), ("temperature", "isotonic")) == "temperature":
        scaling = TemperatureScaling(kept["clip"])
        scaling.temperature_ = check_number("temperature", kept["temperature"], above=0)
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
    probability : array of shape (N,), or (N, C) for three classes or more
        Of the abnormal class, or of every class.
    method : {"temperature", "isotonic"}
        Isotonic is for two classes.
    folds : int
        Parts of the patients, each calibrated by the rest; at least 2.
    seed : int
        Of the parting.

    Returns
    -------
    ndarray of shape (N,) or (N, C)
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
    from sklearn.model_selection import StratifiedGroupKFold  # here, as scikit-learn takes a second to load

    check_columns(table, ("label", "patient"))
    check_choice("method", method, ("temperature", "isotonic"))
    if _many(probability):
        p = as_shares(probability, len(table))
        y = as_codes(table["label"], p.shape[1], "table['label']")
    else:
        y = as_label(table["label"], "table['label']")
        p = as_probability(probability, len(table))
    unit = as_units(table["patient"], len(table), "table['patient']")
    patients = int(unit.max()) + 1
    check_whole("folds", folds, least=2, most=patients)
    out = np.empty_like(p)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for others, some in parts.split(p, y, unit):
        calibrator = TemperatureScaling() if method == "temperature" else IsotonicCalibration()
        out[some] = calibrator.fit(p[others], y[others]).predict(p[some])
    return out
