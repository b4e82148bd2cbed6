"""`evaluate`: every score of a set of answers, with its interval."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_columns, check_number

from ._checks import as_codes, as_label, as_probability, as_shares, as_units
from .aggregation import STUDY
from .aggregation import aggregate as aggregate_studies
from .intervals import Bootstrap, bootstrap, inverted_interval, patient_draws
from .metrics import METRICS, calibration_draws, score_draws
from .multiclass import class_draws, class_names, is_ordered, study_shares

log = logging.getLogger(__name__)

PLAIN = tuple(name for name in METRICS if name != "ece")  # the calibration error has an interval of its own
MISSING = "(missing)"
MOST_GROUPS = 50
FEW_PATIENTS, FEW_OF_A_CLASS = 10, 5


def evaluate(
    table: pd.DataFrame, probability: ArrayLike, level: Literal["view", "study"] = "view",
    threshold: float = 0.5, *, aggregate: Literal["mean", "max", "noisy-or", "top-k"] = "mean", top: int = 2,
    by: str | None = None, classes: Sequence[str] | None = None, ordered: bool | None = None,
    draws: int = 2000, confidence: float = 0.95, bins: int = 15, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Score a model's answers, with intervals from a bootstrap over patients.

    Parameters
    ----------
    table : DataFrame
        One row a view: columns ``label`` (0, 1; with C classes 0 to C - 1) and ``patient``; for studies also
        ``part`` and ``study``.
    probability : array of shape (N,) or (N, C)
        Of the abnormal class, one a row of `table`, in its order; or of every class, as ``predict_proba``
        gives them. With three classes or more the answer is the class of the largest probability, `threshold`
        and `bins` play no part, a study has the mean of its views, and the scores are those of `class_draws`.
    level : {"view", "study"}
        What is counted. A study's probability is made of its views' (`aggregate`).
    threshold : float
        Above it the answer is "abnormal".
    aggregate : {"mean", "max", "noisy-or", "top-k"}
        For studies, see `siamura.evaluation.aggregate`.
    top : int
        Views that count for "top-k".
    by : str, optional
        A column, ``"part"``, ``"sex"`` or ``"hardware"`` say: scores of each of its values in order, rows
        without a value as ``"(missing)"``, then of all together (``"all"``). For a group of fewer than 10
        patients, or with a class of fewer than 5, ``.attrs["small"]`` holds a sentence, which is logged too.
    classes : sequence of str, optional
        Names of the classes by code; default ``table.attrs["classes"]``, else the codes.
    ordered : bool, optional
        Whether three classes or more are grades (then kappa with quadratic weights is given, and a study has
        the highest grade of its views); default ``table.attrs["ordered"]``, else not.
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
    check_choice("level", level, ("view", "study"))
    check_columns(table, ("label", "patient", *((by,) if by is not None else ())))
    shares = np.asarray(probability)
    names: tuple[str, ...] | None = None
    if shares.ndim == 2 and shares.shape[1] != 2:
        p = as_shares(probability, len(table))
        names = class_names(table, p.shape[1], classes)
        grades = is_ordered(table, ordered)
        if aggregate != "mean":
            raise ValueError(f"aggregate={aggregate!r} is for two classes; with {len(names)} give 'mean'")
    else:
        p = as_probability(probability, len(table))
    check_number("threshold", threshold)

    def scored(rows: NDArray[np.bool_] | slice) -> pd.DataFrame:
        some = table.loc[rows] if not isinstance(rows, slice) else table
        if names is not None:
            return _class_scores(some, p[rows], level, names, grades, draws, confidence, seed)
        return _scores(some, p[rows], level, threshold, aggregate, top, draws, confidence, bins, seed)

    if by is None:
        return scored(slice(None))
    frames, attrs, small = {}, {}, {}
    values = np.array(table[by], dtype=object)
    values[pd.isna(table[by]).to_numpy()] = MISSING
    kinds = set(values.tolist())
    if "all" in kinds:
        raise ValueError(f"table[{by!r}] holds 'all', which names the scores of all together; rename it")
    if len(kinds) > MOST_GROUPS:
        raise ValueError(
            f"table[{by!r}] has {len(kinds)} different values; cut it into at most {MOST_GROUPS} groups, as "
            "pandas.cut does of numbers"
        )
    try:
        in_order: list[Any] = sorted(kinds, key=lambda kind: (kind == MISSING, isinstance(kind, str), kind))
    except TypeError as error:
        raise ValueError(f"table[{by!r}] cannot be put in order ({error}); make it text") from error
    for value in [*in_order, None]:
        rows = np.ones(len(table), dtype=bool) if value is None else values == value
        name = "all" if value is None else value
        frames[name] = scored(rows)
        attrs[name] = dict(frames[name].attrs)
        frames[name].attrs = {}
        called = class_names(table, 2, classes) if names is None else names
        if value is not None and (sentence := _too_small(table.loc[rows], by, value, called)):
            small[name] = sentence
            log.warning(sentence)
    joined = pd.concat(frames, names=[by, "metric"])
    joined.attrs.update({**attrs["all"], "by": by, "each": attrs, "small": small})
    return joined


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Within it, a warning on a group is logged once, however many models and levels are scored on the same rows."""
    said: set[str] = set()

    def first(record: logging.LogRecord) -> bool:
        new = record.getMessage() not in said
        said.add(record.getMessage())
        return new

    log.addFilter(first)
    try:
        yield
    finally:
        log.removeFilter(first)


def _too_small(rows: pd.DataFrame, by: str, value: object, names: Sequence[str]) -> str | None:
    """Return a sentence about a group from which little can be said."""
    patients = int(rows["patient"].nunique())
    each = rows.groupby("label")["patient"].nunique()
    if patients >= FEW_PATIENTS and len(each) > 1 and each.min() >= FEW_OF_A_CLASS:
        return None
    called = {code: f"label {code}" if name == str(code) else name for code, name in enumerate(names)}
    counts = ", ".join(
        f"{count} of {called[int(label)]}" for label, count in zip(each.index, each, strict=True)
    )
    return (
        f"{by}={value!r} has {len(rows)} {'view' if len(rows) == 1 else 'views'} of {patients} "
        f"{'patient' if patients == 1 else 'patients'} ({counts}): too few for its scores to be compared with others."
    )


def _class_scores(
    table: pd.DataFrame, p: NDArray[np.float64], level: str, names: tuple[str, ...], ordered: bool,
    draws: int, confidence: float, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Scores of three classes or more."""
    attrs: dict[str, object] = {"level": level, "views": len(table), "classes": names, "ordered": ordered}
    rows = table
    if level == "study":
        rows, p = study_shares(table, p, ordered=ordered)
        attrs |= {"aggregate": "mean", "studies": len(rows)}
    label = as_codes(rows["label"], len(names), "table['label']")
    patient = as_units(rows["patient"], len(rows), "table['patient']")
    patients = int(patient.max()) + 1
    found = bootstrap(
        lambda counts: class_draws(label, p, counts, groups=patient, classes=names, ordered=ordered),
        patients,
        draws,
        confidence,
        seed,
    )
    attrs |= {"patients": patients}
    attrs["rows"] = dict(zip(names, np.bincount(label, minlength=len(names)).tolist(), strict=True))
    return _framed(found, attrs, draws=draws, confidence=confidence, seed=seed)


def _scores(
    table: pd.DataFrame, p: NDArray[np.float64], level: str, threshold: float, aggregate: str, top: int,
    draws: int, confidence: float, bins: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
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
        lambda counts: score_draws(
            label, p, counts, groups=patient, threshold=threshold, bins=bins, only=PLAIN
        ),
        patients,
        draws,
        confidence,
        seed,
    )
    by_bin = calibration_draws(label, p, patient, np.ones((1, patients)), bins)[0]
    found.value["ece"] = float(np.abs(by_bin).sum())
    found.low["ece"] = found.high["ece"] = float("nan")
    if draws and patients > 1:
        drawn = calibration_draws(label, p, patient, patient_draws(patients, draws, seed), bins)
        found.low["ece"], found.high["ece"] = inverted_interval(drawn, by_bin, confidence)
    attrs |= {"patients": patients, "abnormal": int(label.sum())}
    return _framed(found, attrs, draws=draws, confidence=confidence, seed=seed)


def _framed(found: Bootstrap, attrs: dict[str, object], **drawn: object) -> pd.DataFrame:
    """The scores as a table, with what they rest on."""
    frame = pd.DataFrame({"value": found.value, "low": found.low, "high": found.high})
    frame.index.name = "metric"
    frame.attrs.update(attrs | {"degenerate": found.degenerate} | drawn)
    return frame
