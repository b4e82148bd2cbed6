"""The baseline that every training must beat: neighbours and a logistic regression on features of a frozen trunk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from siamura._validation import check_choice, check_columns, check_filled, check_vectors, check_whole

from ._checks import as_codes, as_units
from ._folds import patient_folds, spread_classes
from .baselines import answer_frame, join_baselines, number_of_classes
from .comparison import compare
from .scores import evaluate

log = logging.getLogger(__name__)

STRENGTHS = (
    1e-5,
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
)  # of standardised features, of which a trunk gives some thousand


@dataclass(frozen=True, eq=False)
class FrozenBaseline:
    """What frozen features answer, and how good that is.

    Attributes
    ----------
    probability : DataFrame
        The rows of the valid table; columns ``k-NN`` and ``logistic``, probabilities of the abnormal class. With
        three classes or more the columns are pairs (name, class).
    scores : DataFrame
        Index (``baseline``, ``metric``), columns ``value, low, high`` as from `siamura.evaluate`.
    strength : float
        The logistic regression's ``C``, chosen within train.
    inner_loss : dict of float to float
        Log loss of each ``C`` on training patients set apart; empty where there were too few patients.

    Examples
    --------
    >>> probability = pd.DataFrame({"k-NN": [0.2, 0.8, 0.3, 0.7], "logistic": [0.1, 0.9, 0.2, 0.8]})
    >>> FrozenBaseline(probability, scores=pd.DataFrame(), strength=0.01, inner_loss={}).strength
    0.01
    """

    probability: pd.DataFrame
    scores: pd.DataFrame
    strength: float
    inner_loss: dict[float, float]


def frozen_baseline(
    features_train: ArrayLike, table_train: pd.DataFrame, features_valid: ArrayLike,
    table_valid: pd.DataFrame, *, k: int = 15, level: Literal["view", "study"] = "view", folds: int = 5,
    draws: int = 2000, confidence: float = 0.95, seed: int = 0,
) -> FrozenBaseline:  # fmt: skip
    """Answer by nearest neighbours and by logistic regression on features that no training has touched.

    Parameters
    ----------
    features_train, features_valid : arrays of shape (N, dim) and (M, dim)
        Pooled features of the trunk, one row a row of the table.
    table_train, table_valid : DataFrame
        Columns ``label`` and ``patient``; for studies also ``part`` and ``study``.
    k : int
        Neighbours that vote; rows of the query's own patient do not.
    level, draws, confidence, seed
        As for `siamura.evaluate`; `seed` also parts the patients.
    folds : int
        Parts of the training patients by which ``C`` is chosen.

    Returns
    -------
    FrozenBaseline

    Raises
    ------
    ValueError
        Where features and tables do not go together, a value is not finite, or train has one label alone.

    Notes
    -----
    Features are standardised with the training rows' means and deviations, those of the training folds while
    ``C`` is chosen by log loss. A patient in both tables is logged as a warning.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"label": rng.integers(0, 2, 160), "patient": np.arange(160) // 2})
    >>> features = rng.normal(size=(160, 8)) + table["label"].to_numpy()[:, None]
    >>> found = frozen_baseline(features[:100], table[:100], features[100:], table[100:], draws=0)
    >>> bool(found.scores["value"]["logistic", "auroc"] > 0.9)
    True
    """
    # Here, as scikit-learn takes a second to load.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from siamura.heads import KNNHead  # here, since it loads torch, which plots and tables do without

    check_whole("k", k)
    check_whole("folds", folds, least=2)
    check_choice("level", level, ("view", "study"))
    x, v = (
        check_vectors("features_train", features_train, least=2),
        check_vectors("features_valid", features_valid),
    )
    for name, table, rows in (("table_train", table_train, x), ("table_valid", table_valid, v)):
        check_columns(table, ("label", "patient"), name)
        check_filled(table, ("label", "patient"), name)
        if len(table) != len(rows):
            raise ValueError(
                f"{name} has {len(table)} rows for {len(rows)} rows of features; give one row a row."
            )
    if x.shape[1] != v.shape[1]:
        raise ValueError(
            f"features_train has {x.shape[1]} columns and features_valid {v.shape[1]}; take both from one trunk."
        )
    number = number_of_classes(table_train, table_valid)
    y = as_codes(table_train["label"], number, "table_train['label']")
    as_codes(table_valid["label"], number, "table_valid['label']")
    if len(np.unique(y)) < 2:
        raise ValueError(f"table_train['label'] is {y[0]} alone; at least two classes are needed to learn.")
    both = as_units(pd.concat([table_train["patient"], table_valid["patient"]]), len(x) + len(v), "patient")
    patient, other = both[: len(x)], both[len(x) :]
    if shared := len(np.intersect1d(patient, other)):
        log.warning("%d patients are in train and in valid: the figures are too good.", shared)

    scaler = StandardScaler().fit(x)
    neighbours = KNNHead(k=min(k, len(x))).fit(scaler.transform(x), y, groups=patient)
    near = neighbours.predict_proba(scaler.transform(v), groups=other)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    strength = 1e-3
    losses: dict[float, float] = {}
    if (parts := patient_folds(y, patient, folds, seed)) is not None:
        grid = {"logisticregression__C": list(STRENGTHS)}
        search = GridSearchCV(model, grid, cv=parts, scoring="neg_log_loss", refit=False)
        search.fit(x, y, groups=patient)
        losses = dict(zip(STRENGTHS, (-search.cv_results_["mean_test_score"]).tolist(), strict=True))
        strength = min(losses, key=losses.__getitem__)
    else:
        log.warning("too few patients of a class to choose C within train: C=%g is taken.", strength)
    model.set_params(logisticregression__C=strength).fit(x, y)
    answers = {
        "k-NN": spread_classes(near, neighbours.classes_, number),
        "logistic": spread_classes(model.predict_proba(v), model.classes_, number),
    }
    frames = {
        name: evaluate(table_valid, share, level, draws=draws, confidence=confidence, seed=seed)
        for name, share in answers.items()
    }
    scores = join_baselines(frames)
    scores.attrs["strength"] = strength
    return FrozenBaseline(answer_frame(answers, table_valid), scores, strength, losses)


def compare_paired(
    table: pd.DataFrame, probability: ArrayLike, baselines: pd.DataFrame,
    level: Literal["view", "study"] = "view", *, metrics: Sequence[str] | None = None, draws: int = 2000,
    confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare a model with each of several baselines on the same draws of patients.

    Parameters
    ----------
    table : DataFrame
        The valid rows: as for `siamura.evaluate`.
    probability : array of shape (N,) or (N, C)
        The model's.
    baselines : DataFrame
        The baselines' probabilities of the same rows in the same order: ``FrozenBaseline.probability``, or what
        `trivial_baselines` returns.
    level, draws, confidence, seed
        As for `compare`.
    metrics : sequence of str, optional
        The scores to keep; all by default.

    Returns
    -------
    DataFrame
        Index (``baseline``, ``metric``); columns ``first`` (the model), ``second`` (the baseline),
        ``difference, low, high, p`` as from `compare`. The model is better where ``low`` is above 0 (for
        ``error``, ``brier`` and ``ece`` where ``high`` is below 0).

    Raises
    ------
    ValueError
        Where rows do not go together, or a score is unknown.

    Examples
    --------
    >>> table = pd.DataFrame({"patient": list("abcdefgh"), "label": [0, 0, 0, 0, 1, 1, 1, 1]})
    >>> poor = pd.DataFrame({"k-NN": [0.6, 0.2, 0.7, 0.3, 0.4, 0.8, 0.3, 0.6]})
    >>> found = compare_paired(table, [0.1, 0.2, 0.1, 0.3, 0.9, 0.8, 0.7, 0.6], poor, metrics=["auroc"], draws=200)
    >>> found["difference"].round(3).to_dict()
    {('k-NN', 'auroc'): 0.375}
    """
    if len(baselines) != len(table):
        raise ValueError(f"baselines has {len(baselines)} rows, table {len(table)}; give the same rows.")
    frames = {
        name: compare(
            table, probability, baselines[name], level, draws=draws, confidence=confidence, seed=seed
        )
        for name in baselines.columns.get_level_values(0).unique()
    }
    if not frames:
        raise ValueError("baselines has no column; give the probabilities of at least one.")
    joined = join_baselines(frames)
    attrs = dict(joined.attrs)
    if metrics is not None:
        known = joined.index.get_level_values(1)
        for metric in metrics:
            check_choice("metrics", metric, known.unique())
        joined = joined[known.isin(list(metrics))]
    joined.attrs.update(attrs)
    return joined
