"""From the views' probabilities to the study's."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from siamura._validation import check_choice, check_columns, check_whole

from ._checks import as_label, as_probability

STUDY = ("part", "patient", "study")
HOWS = ("mean", "max", "noisy-or", "top-k")


def aggregate(
    table: pd.DataFrame, probability: ArrayLike, how: str = "mean", *, top: int = 2
) -> pd.DataFrame:
    """One row a study, with a probability made of its views'.

    Parameters
    ----------
    table : DataFrame
        Columns ``part``, ``patient``, ``study``, ``label``; one row a view.
    probability : array of shape (N,)
        Of the abnormal class, one a view.
    how : {"mean", "max", "noisy-or", "top-k"}
        "mean" is MURA's rule. "noisy-or" is ``1 - prod(1 - p)``: abnormal unless every view is normal, were
        the views independent. "top-k" is the mean of the `top` largest.
    top : int
        Views that count for "top-k"; where a study has fewer, all do.

    Returns
    -------
    DataFrame
        ``part, patient, study, label, views, probability``, studies in order of their first view. A study is
        abnormal where any of its views is labelled so.

    References
    ----------
    Rajpurkar et al., "MURA", arXiv 1712.06957, section 3 (the mean).

    Examples
    --------
    >>> views = pd.DataFrame({"part": "XR_HAND", "patient": ["p1", "p1", "p2"], "study": "study1",
    ...                       "label": [1, 1, 0]})
    >>> aggregate(views, [0.2, 0.8, 0.3])[["patient", "label", "views", "probability"]]
      patient  label  views  probability
    0      p1      1      2          0.5
    1      p2      0      1          0.3
    >>> aggregate(views, [0.2, 0.8, 0.3], how="noisy-or")["probability"].round(2).tolist()
    [0.84, 0.3]
    """
    check_columns(table, (*STUDY, "label"))
    check_choice("how", how, HOWS)
    check_whole("top", top)
    p = as_probability(probability, len(table))
    views = pd.DataFrame({name: np.asarray(table[name]) for name in STUDY})
    views["label"] = as_label(table["label"], "table['label']")
    views["probability"] = p
    code = views.groupby(list(STUDY), sort=False, dropna=False).ngroup().to_numpy()
    count = np.bincount(code)
    first = np.unique(code, return_index=True)[1]
    # Studies side by side, each from its largest probability down: every rule is then one reduceat.
    order = np.lexsort((-p, code))
    starts = np.concatenate([[0], count.cumsum()[:-1]])
    ordered = p[order]
    if how == "mean":
        value = np.add.reduceat(ordered, starts) / count
    elif how == "max":
        value = ordered[starts]
    elif how == "noisy-or":
        value = 1 - np.multiply.reduceat(1 - ordered, starts)
    else:
        place = np.arange(len(p)) - np.repeat(starts, count)
        value = np.add.reduceat(np.where(place < top, ordered, 0), starts) / np.minimum(count, top)
    studies = views.loc[first, [*STUDY, "label"]].reset_index(drop=True)
    studies["label"] = np.maximum.reduceat(views["label"].to_numpy()[order], starts)
    studies["views"] = count
    studies["probability"] = np.clip(value, 0, 1)
    return studies
