"""`evaluate`: every score of a set of answers, with its interval."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ._checks import as_label, as_probability, as_units, check_threshold, need_columns, one_of
from .aggregation import STUDY
from .aggregation import aggregate as aggregate_studies
from .intervals import bootstrap, inverted_interval, patient_draws
from .metrics import calibration_draws, score_draws


def evaluate(
    table: pd.DataFrame,
    probability: ArrayLike,
    level: Literal["view", "study"] = "view",
    threshold: float = 0.5,
    *,
    aggregate: Literal["mean", "max", "noisy-or", "top-k"] = "mean",
    top: int = 2,
    by: str | None = None,
    draws: int = 2000,
    confidence: float = 0.95,
    bins: int = 15,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a model's answers, with intervals from a bootstrap over patients.

    Parameters
    ----------
    table : DataFrame
        One row a view: columns ``label`` (0, 1) and ``patient``; for studies also ``part`` and ``study``.
    probability : array of shape (N,)
        Of the abnormal class, one a row of `table`, in its order.
    level : {"view", "study"}
        What is counted. A study's probability is made of its views' (`aggregate`).
    threshold : float
        Above it the answer is "abnormal".
    aggregate : {"mean", "max", "noisy-or", "top-k"}
        For studies, see `siamura.evaluation.aggregate`.
    top : int
        Views that count for "top-k".
    by : str, optional
        A column, ``"part"`` say: scores of each of its values in order, then of all together (``"all"``).
    draws : int
        Bootstrap draws; 0 for none (then ``low`` and ``high`` are NaN).
    confidence : float
        Of the interval.
    bins : int
        Of the expected calibration error.
    seed : int
        Of the draws. The same seed and patients give the same draws.

    Returns
    -------
    DataFrame
        Index ``metric`` (the names in ``METRICS``), columns ``value, low, high``. With `by` the index is
        (that column, ``metric``). A value is NaN where it is undefined, as precision is where nothing was
        called abnormal. ``.attrs`` holds plain scalars: level, aggregate, threshold, views, studies (absent
        where the table has none), patients, abnormal (rows counted as such), draws, degenerate (draws that
        leave a score undefined which the whole data define), confidence, seed; with `by` also ``each``, a
        dict of the same for each value.

    Raises
    ------
    ValueError
        Where a column is missing, a probability is not in [0, 1], or `by` has a value "all".

    Notes
    -----
    Patients are drawn with replacement, with all their views and studies; the interval is bias-corrected and
    accelerated (`bca_interval`), that of the calibration error by `inverted_interval`. A draw in which a score is
    undefined is left out for that score, and counted.
    Where every answer is right, every draw is, and the interval has no width: read it as "no error among so
    many patients", not as certainty. One patient gives no interval.

    References
    ----------
    Field and Welsh, "Bootstrapping clustered data", 2007 (drawing clusters, not rows). Efron, "Better
    bootstrap confidence intervals", 1987.

    Examples
    --------
    >>> views = pd.DataFrame({"patient": list("aabbccdd"), "label": [0, 0, 1, 1, 0, 0, 1, 1]})
    >>> scores = evaluate(views, [0.1, 0.2, 0.9, 0.8, 0.3, 0.6, 0.7, 0.4], draws=200)
    >>> scores.loc[["accuracy", "kappa", "auroc"], "value"].round(4).to_dict()
    {'accuracy': 0.75, 'kappa': 0.5, 'auroc': 0.9375}
    >>> scores.attrs["views"], scores.attrs["patients"]
    (8, 4)
    """
    one_of(level, "level", ("view", "study"))
    need_columns(table, ("label", "patient", *((by,) if by is not None else ())))
    p = as_probability(probability, len(table))
    check_threshold(threshold)
    if by is None:
        return _scores(table, p, level, threshold, aggregate, top, draws, confidence, bins, seed)
    frames, attrs = {}, {}
    values = np.asarray(table[by])
    as_units(values, len(table), f"table[{by!r}]")
    kinds = set(values.tolist())
    if "all" in kinds:
        raise ValueError(f"table[{by!r}] holds 'all', which names the scores of all together; rename it")
    try:
        ordered = sorted(kinds)
    except TypeError as error:
        raise ValueError(f"table[{by!r}] cannot be put in order ({error}); make it text") from error
    for value in [*ordered, None]:
        rows = np.ones(len(table), dtype=bool) if value is None else values == value
        name = "all" if value is None else value
        frames[name] = _scores(
            table.loc[rows], p[rows], level, threshold, aggregate, top, draws, confidence, bins, seed
        )
        attrs[name] = dict(frames[name].attrs)
        frames[name].attrs = {}
    joined = pd.concat(frames, names=[by, "metric"])
    joined.attrs.update({**attrs["all"], "by": by, "each": attrs})
    return joined


def _scores(
    table: pd.DataFrame,
    p: NDArray[np.float64],
    level: str,
    threshold: float,
    aggregate: str,
    top: int,
    draws: int,
    confidence: float,
    bins: int,
    seed: int,
) -> pd.DataFrame:
    attrs: dict[str, object] = {"level": level, "threshold": float(threshold), "views": len(table)}
    rows = table
    if level == "study":
        rows = aggregate_studies(table, p, aggregate, top=top)
        p = rows["probability"].to_numpy()
        attrs |= {"aggregate": aggregate if aggregate != "top-k" else f"top-{top}", "studies": len(rows)}
    elif set(STUDY) <= set(table.columns):
        attrs["studies"] = int(table.groupby(list(STUDY), dropna=False).ngroups)
    label = as_label(rows["label"], "table['label']")
    patient = as_units(rows["patient"], len(rows), "table['patient']")
    patients = int(patient.max()) + 1
    found = bootstrap(
        lambda counts: score_draws(label, p, counts, groups=patient, threshold=threshold, bins=bins),
        patients,
        draws,
        confidence,
        seed,
    )
    if draws and patients > 1:
        counts = patient_draws(patients, draws, seed)
        value = calibration_draws(label, p, patient, np.ones((1, patients)), bins)[0]
        by_bin = calibration_draws(label, p, patient, counts, bins)
        low, high = inverted_interval(by_bin, value, confidence)
        error = found.value["ece"]  # the same sum, added up in another order
        found.low["ece"], found.high["ece"] = min(low, error), max(high, error)
    frame = pd.DataFrame({"value": found.value, "low": found.low, "high": found.high})
    frame.index.name = "metric"
    attrs |= {
        "patients": patients,
        "abnormal": int(label.sum()),
        "draws": draws,
        "degenerate": found.degenerate,
        "confidence": confidence,
        "seed": seed,
    }
    frame.attrs.update(attrs)
    return frame
