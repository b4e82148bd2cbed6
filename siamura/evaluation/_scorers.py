"""A model's answers made ready to be scored on many draws of patients, and differences of two models on the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_columns, check_number

from ._checks import as_codes, as_label, as_probability, as_shares, as_units
from .aggregation import aggregate as aggregate_studies
from .intervals import bootstrap
from .metrics import score_draws
from .multiclass import class_draws, class_names, is_ordered, study_shares

__all__ = ["Scorer", "mean_of", "paired_differences", "scorer"]

Float = NDArray[np.float64]
Score: TypeAlias = Callable[[Float | None], dict[str, Float]]


@dataclass(frozen=True)
class Scorer:
    """A model's answers to some rows.

    Attributes
    ----------
    score : callable
        Counts of shape (D, patients), or None for everybody once, to the D values of each score.
    rows, patients : int
        Rows that are scored (views or studies), and their patients.
    classes : tuple of str or None
        Names of three classes or more.
    ordered : bool
        Whether these are grades.
    """

    score: Score
    rows: int
    patients: int
    classes: tuple[str, ...] | None
    ordered: bool

    def plain(self) -> dict[str, float]:
        """Give the scores of the data themselves."""
        return {name: float(values[0]) for name, values in self.score(None).items()}

    def about(self, level: str) -> dict[str, Any]:
        """Say what the scores rest on, for the attributes of a frame."""
        found: dict[str, Any] = {"level": level, "rows": self.rows, "patients": self.patients}
        return found if self.classes is None else found | {"classes": self.classes, "ordered": self.ordered}


def scorer(
    table: pd.DataFrame,
    probability: ArrayLike,
    level: Literal["view", "study"],
    *,
    threshold: float = 0.5,
    aggregate: Literal["mean", "max", "noisy-or", "top-k"] = "mean",
    top: int = 2,
    bins: int = 15,
    classes: Sequence[str] | None = None,
    ordered: bool | None = None,
    name: str = "probability",
) -> Scorer:
    """Check a model's answers, bring them to the level, and give what scores them; arguments as for `compare`."""
    check_choice("level", level, ("view", "study"))
    check_columns(table, ("label", "patient"))
    check_number("threshold", threshold)
    shape = np.shape(probability)
    rows, names, grades = table, None, False
    if len(shape) == 2 and shape[1] != 2:
        check_choice("aggregate", aggregate, ("mean",))
        p = as_shares(probability, len(table), name)
        names, grades = class_names(table, p.shape[1], classes), is_ordered(table, ordered)
        if level == "study":
            rows, p = study_shares(table, p, ordered=grades)
        label = as_codes(rows["label"], len(names), "table['label']")
    else:
        p = as_probability(probability, len(table), name)
        if level == "study":
            rows = aggregate_studies(table, p, aggregate, top=top)
            p = rows["probability"].to_numpy()
        label = as_label(rows["label"], "table['label']")
    patient = as_units(rows["patient"], len(rows), "table['patient']")

    def score(counts: Float | None) -> dict[str, Float]:
        if names is not None:
            return class_draws(label, p, counts, groups=patient, classes=names, ordered=grades)
        return score_draws(label, p, counts, groups=patient, threshold=threshold, bins=bins)

    return Scorer(score, len(rows), int(patient.max()) + 1, names, grades)


def mean_of(scorers: Sequence[Scorer]) -> Score:
    """Give what scores several models on the same draws, as the mean of their scores."""

    def score(counts: Float | None) -> dict[str, Float]:
        each = [one.score(counts) for one in scorers]
        return {name: np.mean([scores[name] for scores in each], axis=0) for name in each[0]}

    return score


def paired_differences(
    first: Score, second: Score, about: dict[str, Any], *, draws: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Score two models on the same draws of patients: the frame that `compare` gives.

    Parameters
    ----------
    first, second : callable
        ``Scorer.score`` or `mean_of`, of the same rows.
    about : dict
        Of `Scorer.about`.
    draws, confidence, seed
        As for `compare`.
    """

    def differences(counts: Float | None) -> dict[str, Float]:
        one, two = first(counts), second(counts)
        return {name: one[name] - two[name] for name in one}

    found = bootstrap(differences, about["patients"], draws, confidence, seed, floor=-np.inf)
    frame = pd.DataFrame(
        {
            "first": {name: float(values[0]) for name, values in first(None).items()},
            "second": {name: float(values[0]) for name, values in second(None).items()},
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "p": {name: _two_sided(values) for name, values in found.drawn.items()},
        }
    )
    frame.index.name = "metric"
    drawn = {"draws": draws, "degenerate": found.degenerate, "confidence": confidence, "seed": seed}
    frame.attrs.update(about | drawn)
    return frame


def _two_sided(difference: Float) -> float:
    """Twice the share of draws on the far side of zero, at least 1 / (draws + 1)."""
    defined = difference[~np.isnan(difference)]
    if 2 * len(defined) < len(difference):
        return float("nan")
    beyond = 1 + min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * beyond / (len(defined) + 1)))
