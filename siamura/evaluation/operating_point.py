"""A model's operating point: how its probabilities become calibrated ones and an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_number, check_whole

from ._checks import as_probability, as_shares
from .aggregation import aggregate as aggregate_studies
from .calibration import calibrator_from_dict
from .multiclass import is_ordered, study_shares
from .scores import evaluate

__all__ = ["OperatingPoint"]


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

    @property
    def calls_all(self) -> bool:
        """Whether every probability that there is lies above the threshold, so that the answer says nothing.

        So it is where more positive rows than the wanted sensitivity may miss have the lowest probability, as views
        with no positive neighbour have from a k-NN.
        """
        return self.threshold is not None and bool(self.calibrate([0.0])[0] > self.threshold)

    @property
    def warning(self) -> str:
        """What is wrong with it, and the remedy, where it `calls_all`; else nothing."""
        if not self.calls_all:
            return ""
        return (
            f"every {self.level} is called positive: of the positive ones that the threshold was fitted on, so many "
            f"have the lowest probability that only this reaches a sensitivity of {self.sensitivity:.2f}. Take "
            "another head, a lower sensitivity or more neighbours."
        )

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

    def evaluate(
        self, table: pd.DataFrame, probability: ArrayLike, *, classes: Sequence[str] | None = None,
        ordered: bool | None = None, draws: int = 2000, confidence: float = 0.95, seed: int = 0,
    ) -> pd.DataFrame:  # fmt: skip
        """Score the calibrated probabilities and the answers at this threshold, as `siamura.evaluate` does.

        Parameters
        ----------
        table : DataFrame
            One row a view, of patients on whom this was not fitted; as for `siamura.evaluate`.
        probability : array of shape (N,) or (N, C)
            Of the views, as the model gives them; for studies their mean is calibrated.
        classes, ordered, draws, confidence, seed
            As for `siamura.evaluate`.

        Returns
        -------
        DataFrame
            As from `siamura.evaluate`.

        Examples
        --------
        >>> table = pd.DataFrame({"label": [0, 0, 1, 1], "patient": list("abcd")})
        >>> point = OperatingPoint("view", None, threshold=0.25, sensitivity=0.9, patients=80, rows=100)
        >>> point.evaluate(table, [0.1, 0.3, 0.3, 0.9], draws=0)["value"][["recall", "specificity"]].tolist()
        [1.0, 0.5]
        """
        rows, p = self.rows_of(table, probability, ordered=ordered)
        found = evaluate(
            rows, p, "view", 0.5 if self.threshold is None else self.threshold, classes=classes, ordered=ordered,
            draws=draws, confidence=confidence, seed=seed,
        )  # fmt: skip
        found.attrs |= {"level": self.level, "views": len(table)}
        if self.level == "study":
            found.attrs["studies"] = len(rows)
        return found

    def rows_of(
        self, table: pd.DataFrame, probability: ArrayLike, *, ordered: bool | None = None
    ) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        """Give the rows of the `level` (of studies one each) and their calibrated probabilities."""
        if self.level == "view":
            return table, self.calibrate(probability)
        if np.ndim(probability) == 2 and np.shape(probability)[1] > 2:
            rows, share = study_shares(
                table, as_shares(probability, len(table)), ordered=is_ordered(table, ordered)
            )
            return rows, self.calibrate(share)
        rows = aggregate_studies(table, as_probability(probability, len(table)))
        return rows.drop(columns="probability"), self.calibrate(rows["probability"])

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
