"""Operating point and calibration of a run, fitted on patients on whom its network did not train."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from siamura.evaluation import OperatingPoint, fit_operating_point
from siamura.evaluation._folds import patient_folds, spread_classes
from siamura.studies import split_patients

from .metrics import summary

if TYPE_CHECKING:
    import numpy.typing as npt

    from .data import Inputs

__all__ = [
    "FEWEST",
    "apart_probability",
    "fit_points",
    "hold_back",
    "points_of_heads",
    "score_points",
]

_log = logging.getLogger(__name__)

FEWEST = 10  # patients of each class that are held back, or none are
LEVELS: tuple[Literal["view"], Literal["study"]] = ("view", "study")

Points = dict[str, dict[str, OperatingPoint]]


def hold_back(
    train: pd.DataFrame, share: float, *, patients: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame | None, str]:
    """Part the training patients: those on whom the network trains, and those on whom it is calibrated.

    Parameters
    ----------
    train : DataFrame
        The training views.
    share : float
        Of the patients, that are held back; 0 for none.
    patients : int
        The fewest patients of each class that must be left to train on.
    seed : int

    Returns
    -------
    train, calibration : DataFrame
        The second is None where none are held back.
    str
        What was done, for the report.
    """
    if not share:
        return train, None, "No training patients were held back from the network for calibration."
    few = (
        f"Too few patients of a class to hold {share:.0%} of the training patients back from the network for "
        f"calibration: {FEWEST} of each class must be held back, and {patients} left."
    ).replace("%", " %")
    counts = train.groupby("label")["patient"].nunique()
    if counts.min() * share < FEWEST - 1 or counts.min() - FEWEST < patients:
        return train, None, few
    parted = split_patients(train, {"train": 1 - share, "calibration": share}, seed=seed)
    back = (parted["split"] == "calibration").to_numpy()
    sides = []
    for rows in (~back, back):
        side = train[rows].reset_index(drop=True)
        side.attrs = train.attrs
        sides.append(side)
    left, held = (
        side.groupby("label")["patient"].nunique().reindex(counts.index, fill_value=0).min() for side in sides
    )
    if held < FEWEST or left < patients:
        return train, None, few
    said = (
        f"{len(sides[1])} views of {sides[1]['patient'].nunique()} training patients (share {share:g}, drawn with seed "
        f"{seed}) were held back from the training of the network; the operating point is fitted on them."
    )
    return sides[0], sides[1], said


def apart_probability(
    heads: Mapping[str, Any],
    embeddings: npt.NDArray[np.float32],
    table: pd.DataFrame,
    rows: npt.NDArray[np.bool_],
    *,
    seed: int,
    folds: int = 5,
) -> dict[str, npt.NDArray[np.float64]] | None:
    """Probabilities of some patients by heads that were fitted on all others: no head has seen whom it answers for.

    Parameters
    ----------
    heads : mapping of str to head
        Cloned, not changed.
    embeddings, table : float32 (N, dim), DataFrame
        Of all training views.
    rows : bool (N,)
        Those that are wanted: the views of whole patients.
    seed, folds : int
        Of the parts of these patients; each part is answered for by heads fitted on everyone else.

    Returns
    -------
    dict of str to float64 (M,) or (M, C), or None
        By head; None where a class has fewer than two of these patients.
    """
    from sklearn.base import clone  # here for the time that it takes to load

    label, patient = table["label"].to_numpy(), table["patient"].to_numpy()
    at = np.flatnonzero(rows)
    number = max(2, int(label.max()) + 1)
    there = np.unique(label[at])
    parts = patient_folds(label[at], patient[at], folds, seed) if len(there) == number else None
    if parts is None:
        return None
    found = {name: np.empty((len(at), number)) for name in heads}
    for _, some in parts.split(at, label[at], patient[at]):
        others = np.ones(len(table), dtype=bool)
        others[at[some]] = False
        for name, head in heads.items():
            fitted = head
            if (
                getattr(head, "source_", "rows") == "rows"
            ):  # the network's own classifier saw what the network saw
                fitted = clone(head)
                if "k" in fitted.get_params():
                    fitted.set_params(k=min(head.k, int(others.sum())))
                fitted.fit(embeddings[others], label[others], groups=patient[others])
            share = fitted.predict_proba(embeddings[at[some]])
            found[name][some] = spread_classes(share, fitted.classes_, number)
    return {name: share[:, 1] if number == 2 else share for name, share in found.items()}


def fit_points(
    experiment: Any,
    table: pd.DataFrame,
    by_head: Mapping[str, npt.NDArray[np.float64]],
) -> Points:
    """Fit an operating point of each head, for views and for studies, on patients apart.

    Parameters
    ----------
    experiment : Experiment or ClassifierExperiment
        Its `sensitivity`, `calibration` and `seed`.
    table : DataFrame
        Of the patients apart; never a validation view.
    by_head : mapping of str to float64 (N,) or (N, C)
        Probabilities by what was not fitted on these patients.

    Returns
    -------
    dict of str to dict of str to OperatingPoint
        By head, then by level.
    """
    return {
        head: {
            level: fit_operating_point(
                table, p, sensitivity=experiment.sensitivity, method=experiment.calibration, level=level,
                seed=experiment.seed,
            )
            for level in LEVELS
        }
        for head, p in by_head.items()
    }  # fmt: skip


def score_points(
    points: Points,
    table: pd.DataFrame,
    by_head: Mapping[str, npt.NDArray[np.float64]],
    how: str,
    *,
    classes: tuple[str, ...],
    ordered: bool,
    seed: int,
) -> dict[str, Any]:
    """Measure operating points on the validation views, on which they were not fitted.

    Returns
    -------
    dict
        ``{"how": sentence, "heads": {head: {level: {"point": ..., "valid": figures}}}}``, for ``metrics.json``.
    """
    heads: dict[str, Any] = {}
    for head, by_level in points.items():
        heads[head] = {}
        for level, point in by_level.items():
            frame = point.evaluate(table, by_head[head], classes=classes, ordered=ordered, seed=seed)
            heads[head][level] = {"point": point.to_dict(), "valid": summary(frame)}
    return {"how": how, "heads": heads}


def points_of_heads(
    experiment: Any,
    inputs: Inputs,
    heads: Mapping[str, Any],
    embeddings: npt.NDArray[np.float32],
    table: pd.DataFrame,
) -> tuple[Points, str, dict[str, npt.NDArray[np.float64]], npt.NDArray[np.int64]]:
    """Operating points of a run's heads, what was done in words, and the probabilities that they were fitted on.

    Parameters
    ----------
    experiment : Experiment
    inputs : Inputs
    heads : mapping of str to head
    embeddings, table : float32 (N, dim), DataFrame
        Of all training views, those of the calibration patients last.

    Returns
    -------
    points : dict
        By head and level; empty where a class has too few patients.
    how : str
    apart : dict of str to float64 (M,) or (M, C)
        Probabilities by head of training views, by heads that had not seen them.
    rows : int64 (M,)
        Those views.
    """
    held = inputs.splits.get("calibration")
    rows = np.ones(len(table), dtype=bool)
    how = f"{inputs.facts['calibration']} "
    own = any(getattr(head, "source_", "rows") == "network" for head in heads.values())
    if held is not None:
        rows[: len(table) - len(held)] = False
        learnt = ", and from the classifier that the network learnt" if own else ""
        how += (
            "Their probabilities come from heads that were fitted on all other training patients, part by part"
            f"{learnt}: neither network nor head had seen them."
        )
    else:
        fitted = "k-NN head was" if own else "heads were"
        how += (
            f"The {fitted} fitted again on parts of the training patients, with the network as it is, to answer for "
            "the patients left out. The network itself was trained on these patients: their probabilities are too "
            "good, so on new patients the sensitivity reached may be far below the one wanted."
        )
    found = apart_probability(heads, embeddings, table, rows, seed=experiment.seed)
    if found is None:
        _log.warning("too few patients of a class for an operating point; the answer stays at 0.5")
        how = f"{inputs.facts['calibration']} A class has too few patients for an operating point."
        return {}, how, {}, np.empty(0, np.int64)
    rest = table[rows].reset_index(drop=True)
    rest.attrs = table.attrs
    return fit_points(experiment, rest, found), how, found, np.flatnonzero(rows)
