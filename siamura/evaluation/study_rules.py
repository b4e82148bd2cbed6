"""How a study's probability is made of its views': the rules side by side, on the same patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_whole

from ._checks import as_probability, as_shares
from .aggregation import aggregate
from .frozen import compare_paired
from .multiclass import class_names, is_ordered, study_shares
from .scores import evaluate

__all__ = ["compare_study_rules"]

#: Of two classes, beside the mean.
_RULES = ("max", "noisy-or", "top-k")


def compare_study_rules(
    table: pd.DataFrame, probability: ArrayLike, further: Mapping[str, ArrayLike] | None = None, *,
    top: int = 2, classes: Sequence[str] | None = None, ordered: bool | None = None, draws: int = 2000,
    confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Score studies by each rule that makes one probability of their views', and compare it with the mean.

    Parameters
    ----------
    table : DataFrame
        Views: columns ``part, patient, study, label``.
    probability : array of shape (N,) or (N, C)
        Of the views. With three classes or more the mean is the only rule for probabilities.
    further : mapping of str to array of shape (S,) or (S, C), optional
        Probabilities of the studies by other means, such as ``{"attention": StudyAttention.predict_proba(...)}``;
        studies in order of their first view.
    top : int
        Views that count for "top-k".
    classes, ordered, draws, confidence, seed
        As for `siamura.evaluate`.

    Returns
    -------
    DataFrame
        Index (``rule``, ``metric``): "mean", "max", "noisy-or", "top-2", then those of `further`. Columns ``value, low,
        high`` as from `siamura.evaluate`, and the paired difference to the mean: ``difference, difference_low,
        difference_high, p`` (NaN of the mean itself). ``.attrs``: ``studies, patients, several`` (studies of more than
        one view; of all others every rule for probabilities says the same), ``draws, confidence, seed``.

    Notes
    -----
    A score at a threshold of 0.5 depends on the rule beyond how well it ranks: the largest of many probabilities is
    above 0.5 more often than their mean. Compare rules by ``auroc`` first, and fit a threshold for the rule that is
    used.

    Examples
    --------
    >>> views = pd.DataFrame({"part": "XR_HAND", "patient": list("aabbccdd"), "study": "study1",
    ...                       "label": [0, 0, 0, 0, 1, 1, 1, 1]})
    >>> found = compare_study_rules(views, [0.3, 0.4, 0.3, 0.3, 0.9, 0.0, 0.8, 0.1], draws=100)
    >>> found["value"].xs("auroc", level="metric").to_dict()
    {'mean': 1.0, 'max': 1.0, 'noisy-or': 1.0, 'top-2': 1.0}
    >>> found.attrs["studies"], found.attrs["several"]
    (4, 4)
    """
    check_whole("draws", draws)
    studies, by_rule = _by_rule(table, probability, top, classes, ordered)
    mean = by_rule["mean"]
    for name, values in (further or {}).items():
        if name in by_rule:
            raise ValueError(f"further holds {name!r}, which names a rule; call it otherwise.")
        check = as_probability if mean.ndim == 1 else as_shares
        by_rule[name] = check(values, len(studies), f"further[{name!r}]")
        if by_rule[name].shape != mean.shape:
            raise ValueError(
                f"further[{name!r}] has shape {by_rule[name].shape}; it must answer for the classes of probability, "
                f"shape {mean.shape}."
            )
    about: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    frames = {}
    for name, p in by_rule.items():
        scores = evaluate(studies, p, **about)
        frame = scores[["value", "low", "high"]].copy()
        paired = None
        if name != "mean":
            paired = compare_paired(studies, p, _column("mean", mean), **about).xs("mean", level="baseline")
        for column, of in (
            ("difference", "difference"),
            ("difference_low", "low"),
            ("difference_high", "high"),
            ("p", "p"),
        ):
            frame[column] = np.nan if paired is None else paired[of]
        frame.attrs.clear()  # pandas compares them while it joins
        frames[name] = frame
    joined = pd.concat(frames, names=["rule", "metric"])
    joined.attrs.update(
        {"studies": len(studies), "patients": int(studies["patient"].nunique()),
         "several": int((studies["views"] > 1).sum()), **about}
    )  # fmt: skip
    return joined


def _by_rule(
    table: pd.DataFrame,
    probability: ArrayLike,
    top: int,
    classes: Sequence[str] | None,
    ordered: bool | None,
) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """One row a study, and the studies' probabilities by each rule."""
    shape = np.shape(probability)
    if len(shape) == 2 and shape[1] != 2:
        p = as_shares(probability, len(table))
        grades = is_ordered(table, ordered)
        studies, mean = study_shares(table, p, ordered=grades)
        studies.attrs.update({"classes": class_names(table, p.shape[1], classes), "ordered": grades})
        return studies, {"mean": mean}
    studies = aggregate(table, probability)
    found = {"mean": studies["probability"].to_numpy()}
    for rule in _RULES:
        name = f"top-{top}" if rule == "top-k" else rule
        found[name] = aggregate(table, probability, rule, top=top)["probability"].to_numpy()
    return studies.drop(columns="probability"), found


def _column(name: str, p: NDArray[np.float64]) -> pd.DataFrame:
    """Probabilities as `compare_paired` takes a baseline's."""
    if p.ndim == 1:
        return pd.DataFrame({name: p})
    columns = pd.MultiIndex.from_product([[name], range(p.shape[1])], names=["baseline", "class"])
    return pd.DataFrame(p, columns=columns)
